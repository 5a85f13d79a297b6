package main

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// listen opens a session's GET stream on a replica; what it returns is closed when the stream ends.
func (a tenant) listen(ctx context.Context, t *testing.T, r *replica, session string) <-chan struct{} {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Mcp-Session-Id", session)
	req.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	res, err := tenantHeaders{a.url, a.key, a.name}.RoundTrip(req) //nolint:bodyclose // below, when it ends
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("GET on %s: %d", r.name, res.StatusCode)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body) // however it ends
	}()
	return ended
}

// TestNewestStreamWins: a session has one GET stream on all replicas together, and the newest is it.
func TestNewestStreamWins(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"in process": false, "shared upstream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, acme := newFleet(t, 1), newTenant(t)
			var args []string
			if shared {
				args = []string{"--upstream", newEcho(t)}
			}
			a, b := f.add(args...), f.add(args...)
			s := acme.open(t, a)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			last := acme.listen(ctx, t, a, s)
			for _, r := range []*replica{b, a, b, b, a} {
				newer := acme.listen(ctx, t, r, s)
				select {
				case <-last:
				case <-time.After(30 * time.Second):
					t.Fatalf("the older stream goes on after one on %s was opened", r.name)
				}
				last = newer
			}
			select {
			case <-last:
				t.Error("the newest stream has ended")
			case <-time.After(200 * time.Millisecond): // it has no reason to
			}
		})
	}
}

// newEcho starts an MCP server with one tool, and returns its URL.
func newEcho(t *testing.T) string {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	type text struct {
		Text string `json:"text"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in text) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	return serveMCP(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
}
