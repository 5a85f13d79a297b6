package durable_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/durable"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
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
