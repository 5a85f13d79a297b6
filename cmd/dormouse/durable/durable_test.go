package durable_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/durable"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), // of the examples' clients
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// The guide's code is the examples' own.
func TestGuide(t *testing.T) {
	files, err := filepath.Glob("*example_test.go")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	var source strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(data)
	}
	guide, err := os.ReadFile("../../../docs/library.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) < 5 {
		t.Fatalf("%d blocks of code", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(source.String(), b[1]) {
			t.Errorf("no example has\n%s", b[1])
		}
	}
}

func TestOptions(t *testing.T) {
	data := t.TempDir()
	at := durable.JournalOptions{Data: data}
	up, err := gateway.NewHTTPUpstream("http://127.0.0.1:1/mcp", gateway.HTTPUpstreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]durable.Options{
		"nothing":    {},
		"no folder":  {Server: newServer},
		"no server":  {JournalOptions: at},
		"two":        {JournalOptions: at, Server: newServer, Upstream: up},
		"a bad part": {JournalOptions: at, Server: newServer, Wiring: durable.Wiring{Engine: engine.Options{MaxLive: -1}}},
	} {
		if h, err := durable.Open(t.Context(), o); err == nil {
			t.Errorf("%s: %v", name, h)
		}
	}
	// What failed has let go of the folder.
	h, err := durable.Open(t.Context(), durable.Options{JournalOptions: at, Upstream: up})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.OpenJournal(t.Context(), at); err == nil {
		t.Error("one folder, two owners")
	}
	select {
	case <-h.Journal.Done():
		t.Error(h.Journal.Err())
	default:
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := durable.Assemble(durable.Parts{}, durable.Wiring{}); err == nil || errors.Is(err, context.Canceled) {
		t.Error("an assembly of nothing")
	}
}

// Sessions of n8n-mcp can be brought in without a word about tenants in the options.
func TestRestoreSessionState(t *testing.T) {
	h, err := durable.Open(t.Context(), durable.Options{JournalOptions: durable.JournalOptions{Data: t.TempDir()}, Server: newServer})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r, err := h.Engine.RestoreSessionState(t.Context(), []engine.SessionState{{
		SessionID: "good-session-000001",
		Metadata:  engine.SessionMetadata{CreatedAt: now, LastAccess: now},
		Context:   engine.InstanceContext{N8nAPIURL: "https://one.example", N8nAPIKey: "key-one"},
	}})
	if err != nil || r != (engine.RestoreResult{Restored: 1}) {
		t.Errorf("%+v, %v", r, err)
	}
	if states, err := h.Engine.ExportSessionState(t.Context()); err != nil || len(states) != 1 {
		t.Errorf("%d sessions, %v", len(states), err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// natsServer starts a NATS server that is not ours and returns its address.
func natsServer(t *testing.T) string {
	t.Helper()
	n, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() })
	if !n.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS is not ready")
	}
	return n.ClientURL()
}

// With the journal in NATS, a session that one process has opened is served by the other, too: while both are there, and
// when the first is gone.
func TestNATS(t *testing.T) {
	url := natsServer(t)
	var both []*durable.Handler
	first := ""
	var sites []*httptest.Server
	for _, name := range []journal.ReplicaID{"a", "b"} {
		at := durable.JournalOptions{Data: t.TempDir(), NATSURL: url, Replica: name}
		if name == "a" {
			first = at.Data
		} else { // the keyring is copied, as the guide says
			keys, err := os.ReadFile(filepath.Join(first, "keys"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(at.Data, "keys"), keys, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h, err := durable.Open(t.Context(), durable.Options{JournalOptions: at, Server: newServer})
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, h)
		site := httptest.NewServer(h)
		defer site.Close()
		sites = append(sites, site)
	}
	ask := func(site *httptest.Server, id, body string) (string, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		if id != "" {
			r.Header.Set("Mcp-Session-Id", id)
		}
		resp, err := site.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 300 {
			t.Fatal(resp.Status, string(answer), err)
		}
		return string(answer), resp.Header.Get("Mcp-Session-Id")
	}
	_, id := ask(sites[0], "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	_, _ = ask(sites[0], id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	const greet = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"greet","arguments":{"name":"you"}}}`
	for _, site := range []*httptest.Server{sites[0], sites[1], sites[0], sites[1]} {
		if got, _ := ask(site, id, greet); !strings.Contains(got, "Hello you") {
			t.Error(got)
		}
	}
	if err := both[0].Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got, _ := ask(sites[1], id, greet); !strings.Contains(got, "Hello you") {
		t.Error(got)
	}
	if err := both[1].Close(t.Context()); err != nil {
		t.Error(err)
	}
}
