package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
			f := newFleet(t, 1)
			var args []string
			if shared {
				args = []string{"--upstream", newEcho(t)}
			}
			f.addAll(2, args...)
			f.newestStreamWins(t, newTenant(t))
		})
	}
}

func (f *fleet) newestStreamWins(t *testing.T, acme tenant) {
	t.Helper()
	a, b := f.replicas[0], f.replicas[1]
	s := acme.open(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := acme.listen(ctx, t, a, s)
	for _, r := range []*replica{b, a, b, b, a} {
		newer := acme.listen(ctx, t, r, s)
		select {
		case <-last:
		case <-time.After(hung):
			t.Fatalf("the older stream goes on after one on %s was opened", r.name)
		}
		last = newer
	}
	select {
	case <-last:
		t.Error("the newest stream has ended")
	case <-time.After(200 * time.Millisecond): // it has no reason to
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

// stdioMain is an MCP server on its standard input and output: this test binary under that name. Its tool says which
// process it is.
func stdioMain() {
	server := mcp.NewServer(&mcp.Implementation{Name: "stdio-echo", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "pid"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint("pid ", os.Getpid())}}}, nil, nil
	})
	_ = server.Run(context.Background(), &mcp.StdioTransport{}) // ends with its parent
}

// TestChildrenAreForwardedTo: a session whose server is a child process of one replica is that very process's on all of them,
// and another one's after a take-over.
func TestChildrenAreForwardedTo(t *testing.T) {
	t.Parallel()
	f, acme := newFleet(t, 1), newTenant(t)
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := filepath.Join(dir, "stdio-echo")
	if err := os.Symlink(exe, child); err != nil {
		t.Fatal(err)
	}
	a, b := f.add("--upstream-command", child), f.add("--upstream-command", child)
	s := acme.open(t, a)
	const pid = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pid","arguments":{}}}`
	ask := func(r *replica) string {
		status, text, _, err := acme.send(t.Context(), http.MethodPost, r.url(), s, pid)
		if err != nil || status != http.StatusOK || !strings.Contains(text, "pid ") {
			t.Fatalf("%s: %d %s %v", r.name, status, text, err)
		}
		return text[strings.Index(text, "pid "):]
	}
	before := ask(a)
	if got := ask(b); got != before {
		t.Errorf("at the other replica it is %s, not %s", got, before)
	}
	a.end(syscall.SIGKILL)
	after := ask(b)
	if after == before {
		t.Error("it is the same process although its replica is gone")
	}
	a.start()
	f.awaitReady(a)
	if got := ask(a); got != after {
		t.Errorf("at the first replica it is %s, not %s", got, after)
	}
}
