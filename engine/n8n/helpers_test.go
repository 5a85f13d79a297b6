package n8n_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

const (
	acmeKey   = "CANARY-acme-key"
	globexKey = "CANARY-globex-key"
)

// startN8n starts a stand-in with the tenants acme and globex.
func startN8n(tb testing.TB) *n8ntest.Server {
	tb.Helper()
	s := n8ntest.New(n8ntest.Tenant{Name: "acme", Key: acmeKey}, n8ntest.Tenant{Name: "globex", Key: globexKey})
	if err := s.Start(tb.Context(), ""); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func newClient(tb testing.TB, o n8n.ClientOptions) *n8n.Client {
	tb.Helper()
	c, err := n8n.NewClient(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// moderate lets the tests reach a stand-in on loopback.
func moderate(tb testing.TB) *n8n.Client {
	tb.Helper()
	return newClient(tb, n8n.ClientOptions{Policy: n8n.Moderate})
}

// connect gives a real client's session with a server for ic.
func connect(tb testing.TB, c *n8n.Client, ic engine.InstanceContext) *mcp.ClientSession {
	tb.Helper()
	server, err := n8n.NewServer(ic, n8n.ServerOptions{Client: c, Version: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	here, there := mcp.NewInMemoryTransports()
	ss, err := server.Connect(tb.Context(), there, nil)
	if err != nil {
		tb.Fatal(err)
	}
	cs, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(tb.Context(), here, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cs.Close()
		_ = ss.Wait()
	})
	return cs
}

func call(tb testing.TB, cs *mcp.ClientSession, tool string, args any) *mcp.CallToolResult {
	tb.Helper()
	res, err := cs.CallTool(tb.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		tb.Fatalf("%s: %v", tool, err)
	}
	return res
}

// result calls a tool and decodes its structured content, which must say the same as its text.
func result[T any](tb testing.TB, cs *mcp.ClientSession, tool string, args any) (out T) {
	tb.Helper()
	res := call(tb, cs, tool, args)
	if res.IsError {
		tb.Fatalf("%s: %s", tool, text(res))
	}
	data, err := json.Marshal(res.StructuredContent)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		tb.Fatalf("%s: %v in %s", tool, err, data)
	}
	var a, b any
	if json.Unmarshal(data, &a) != nil || json.Unmarshal([]byte(text(res)), &b) != nil || !jsonEqual(a, b) {
		tb.Fatalf("%s: text and structured content differ:\n%s\n%s", tool, text(res), data)
	}
	return out
}

func jsonEqual(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func text(res *mcp.CallToolResult) string {
	var b strings.Builder
	for _, c := range res.Content {
		if t, ok := c.(*mcp.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	return b.String()
}

// toolError calls a tool, wants an error result, and returns its words, in which no key may be.
func toolError(tb testing.TB, cs *mcp.ClientSession, tool string, args any) string {
	tb.Helper()
	res := call(tb, cs, tool, args)
	if !res.IsError {
		tb.Fatalf("%s: no error but %s", tool, text(res))
	}
	if strings.Contains(text(res), "CANARY") {
		tb.Fatalf("%s shows the key: %s", tool, text(res))
	}
	return text(res)
}

// fault makes the stand-in answer everything with a status and a body.
func fault(status int, body string, header ...string) n8ntest.Interceptor {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
}

type obj = map[string]any
