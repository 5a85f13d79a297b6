package durable_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/durable"
	"github.com/dormouse-mcp/dormouse/engine"
)

// newServer is the factory that you have already.
func newServer(engine.InstanceContext) (*mcp.Server, error) {
	s := mcp.NewServer(&mcp.Implementation{Name: "greeter", Version: "1"}, nil)
	type who struct {
		Name string `json:"name"`
	}
	mcp.AddTool(s, &mcp.Tool{Name: "greet"}, func(_ context.Context, _ *mcp.CallToolRequest, in who) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "Hello " + in.Name}}}, nil, nil
	})
	return s, nil
}

// serve is all that it takes: a factory in, an http.Handler out.
func serve(ctx context.Context, data string) (*durable.Handler, error) {
	return durable.Open(ctx, durable.Options{
		JournalOptions: durable.JournalOptions{Data: data}, // or NATSURL: "nats://…" for a journal that replicas share
		Server:         newServer,
	})
}

// A client goes on with its session after the server was stopped and started again.
func Example() {
	ctx := context.Background()
	data, err := os.MkdirTemp("", "durable-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(data)
	sessions, err := serve(ctx, data)
	if err != nil {
		log.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sessions.ServeHTTP(w, r) }))
	defer site.Close()
	client, err := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(ctx,
		&mcp.StreamableClientTransport{Endpoint: site.URL, DisableStandaloneSSE: true}, nil)
	if err != nil {
		log.Fatal(err)
	}
	greet := func(name string) {
		res, err := client.CallTool(ctx, &mcp.CallToolParams{Name: "greet", Arguments: map[string]string{"name": name}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(res.Content[0].(*mcp.TextContent).Text)
	}
	greet("before")
	id := client.ID()
	if err := sessions.Close(ctx); err != nil {
		log.Fatal(err)
	}
	if sessions, err = serve(ctx, data); err != nil {
		log.Fatal(err)
	}
	greet("after")
	fmt.Println("the same session:", client.ID() == id)
	if err := client.Close(); err != nil {
		log.Fatal(err)
	}
	if err := sessions.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Hello before
	// Hello after
	// the same session: true
}
