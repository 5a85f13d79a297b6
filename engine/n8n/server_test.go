package n8n_test

import (
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

func listTools(t *testing.T) map[string]*mcp.Tool {
	t.Helper()
	cs := connect(t, moderate(t), engine.InstanceContext{})
	tools := map[string]*mcp.Tool{}
	for tool, err := range cs.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		tools[tool.Name] = tool
	}
	return tools
}

// hints names what a client is told of a tool: whether it reads, adds or replaces, and whether it may be
// repeated.
func hints(a *mcp.ToolAnnotations) string {
	var words []string
	switch {
	case a.ReadOnlyHint:
		words = append(words, "read-only")
	case *a.DestructiveHint:
		words = append(words, "destructive")
	default:
		words = append(words, "additive")
	}
	if a.IdempotentHint {
		words = append(words, "idempotent")
	}
	return strings.Join(words, ", ")
}

func TestToolsAreDescribed(t *testing.T) {
	tools := listTools(t)
	if want, got := slices.Sorted(maps.Keys(everyTool)), slices.Sorted(maps.Keys(tools)); !slices.Equal(got, want) {
		t.Fatalf("registered: %v", got)
	}
	for name, tool := range tools {
		if tool.Description == "" || tool.Annotations == nil || tool.Annotations.Title == "" || !*tool.Annotations.OpenWorldHint {
			t.Errorf("%s: description or annotations are missing", name)
		}
		if tool.OutputSchema == nil {
			t.Errorf("%s: no output schema", name)
		}
		properties, _ := tool.InputSchema.(obj)["properties"].(obj)
		for property, schema := range properties {
			if schema.(obj)["description"] == nil {
				t.Errorf("%s: %s has no description", name, property)
			}
		}
	}
	for name, want := range map[string]string{
		"n8n_get_execution": "read-only, idempotent", "n8n_create_workflow": "additive", "n8n_update_workflow": "destructive, idempotent",
		"n8n_activate_workflow": "additive, idempotent", "n8n_deactivate_workflow": "destructive, idempotent",
	} {
		if got := hints(tools[name].Annotations); got != want {
			t.Errorf("%s: %s; want %s", name, got, want)
		}
	}
}

// The table of tools in docs/n8n.md is the truth, hints included.
func TestDocumentedTools(t *testing.T) {
	page, err := os.ReadFile("../../docs/n8n.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(n8n_[a-z_]+)` \\|.*\\| ([a-z, -]+) \\|$").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = row[2]
	}
	registered := map[string]string{}
	for name, tool := range listTools(t) {
		registered[name] = hints(tool.Annotations)
	}
	if !maps.Equal(documented, registered) {
		t.Errorf("documented: %v\nregistered: %v", documented, registered)
	}
}

func TestServerIntroducesItself(t *testing.T) {
	cs := connect(t, moderate(t), engine.InstanceContext{})
	got := cs.InitializeResult()
	if got.ServerInfo.Name != n8n.ServerName || got.ServerInfo.Version != "test" || got.Instructions == "" {
		t.Errorf("got %+v", got)
	}
	if got.Capabilities.Tools == nil || got.Capabilities.Tools.ListChanged || got.Capabilities.Prompts != nil {
		t.Errorf("capabilities: %+v", got.Capabilities)
	}
}

// A server must be cheap, since every live session has one: measured here, so that a release of the SDK
// that makes it dear is noticed.
func TestServersAreSmall(t *testing.T) {
	const servers, limit = 500, 24 << 10
	c := moderate(t)
	ic := engine.InstanceContext{N8nAPIURL: "http://127.0.0.1:5678", N8nAPIKey: "key"}
	kept := make([]*mcp.Server, servers)
	newServer(t, c, ic)
	before := heap()
	for i := range kept {
		kept[i] = newServer(t, c, ic)
	}
	each := (heap() - before) / servers
	t.Logf("%d bytes a server", each)
	if each > limit {
		t.Errorf("%d bytes a server; at most %d are accepted", each, limit)
	}
	runtime.KeepAlive(kept)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func newServer(tb testing.TB, c *n8n.Client, ic engine.InstanceContext) *mcp.Server {
	tb.Helper()
	s, err := n8n.NewServer(ic, n8n.ServerOptions{Client: c})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func BenchmarkNewServer(b *testing.B) {
	ic := engine.InstanceContext{N8nAPIURL: "https://n8n.example.com", N8nAPIKey: "key"}
	b.Run("client=shared", func(b *testing.B) {
		c := newClient(b, n8n.ClientOptions{})
		b.ReportAllocs()
		for b.Loop() {
			newServer(b, c, ic)
		}
	})
	b.Run("client=each", func(b *testing.B) { // the naive way: schemas and connections of its own
		b.ReportAllocs()
		for b.Loop() {
			c := newClient(b, n8n.ClientOptions{})
			newServer(b, c, ic)
			c.Close()
		}
	})
}

func BenchmarkCanonicalURL(b *testing.B) {
	for _, raw := range []string{"https://n8n.example.com", "http://127.0.0.1:5678/", "https://bücher.example/n8n/"} {
		b.Run(raw, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n8n.CanonicalURL(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCallTool(b *testing.B) {
	s := startN8n(b)
	cs := connect(b, moderate(b), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	b.ReportAllocs()
	for b.Loop() {
		if res := call(b, cs, "n8n_list_workflows", nil); res.IsError {
			b.Fatal(text(res))
		}
	}
}
