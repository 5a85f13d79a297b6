package gateway_test

import (
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// upstreams are the kinds of upstream that every story is told with.
func upstreams(t *testing.T, story func(t *testing.T, up gateway.Upstream, srv *server)) {
	t.Helper()
	for name, o := range map[string]mcp.StreamableHTTPOptions{
		"sse": {}, "json": {JSONResponse: true}, "resumable": {EventStore: mcp.NewMemoryEventStore(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, o)
			story(t, httpUpstream(t, srv.url()), srv)
		})
	}
	t.Run("stdio", func(t *testing.T) {
		story(t, stdioUpstream(t, stdio.Options{}), nil)
	})
	t.Run("in process", func(t *testing.T) {
		story(t, gateway.NewInProcess(factory), nil)
	})
}

func TestClientGoesOn(t *testing.T) {
	upstreams(t, func(t *testing.T, up gateway.Upstream, srv *server) {
		t.Helper()
		s := newSite(t)
		r := s.boot(up)
		cs := s.client()
		id := cs.ID()
		if tools, err := cs.ListTools(t.Context(), nil); err != nil || len(tools.Tools) != 5 {
			t.Fatal(tools, err)
		}
		goOn := func(what string) {
			t.Helper()
			if got := call(t, cs, "echo", what); got != what || cs.ID() != id {
				t.Fatalf("after %s: %q", what, got)
			}
		}
		goOn("nothing")
		r.kill()
		r = s.boot(up)
		goOn("the gateway's restart")
		if srv != nil {
			srv.restart()
			goOn("the upstream's restart")
			r.kill()
			srv.restart()
			r = s.boot(up)
			goOn("both restarts")
		}
		if n := r.engine.SessionInfo().Sessions; n != 1 {
			t.Errorf("%d sessions", n)
		}
		must(t, cs.Close())
		if n := r.engine.SessionInfo().Sessions; n != 0 {
			t.Errorf("%d sessions after DELETE", n)
		}
	})
}

func factory(engine.InstanceContext) (*mcp.Server, error) { return newTools(), nil }
