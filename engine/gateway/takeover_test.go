package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// beside boots a second replica with a door of its own.
func (s *site) beside(up gateway.Upstream, mods ...setup) (*replica, *site) {
	s.tb.Helper()
	other := &site{tb: s.tb, journal: s.journal, ring: s.ring, door: newDoor(s.tb), log: s.log}
	mods = append(mods, setup{
		waker:  func(o *gateway.WakerOptions) { o.Replica = "b" },
		engine: func(o *engine.Options) { o.Replica = "b" },
	})
	return other.boot(up, mods...), other
}

// Two replicas find the session lost at once: one claims it, the other adopts what it opened.
func TestReplicasShareAHandshake(t *testing.T) {
	up := newStubborn(t)
	a := newSite(t)
	a.boot(httpUpstream(t, up.door.url()))
	_, b := a.beside(httpUpstream(t, up.door.url()))
	for round := range 10 {
		id := a.session()
		for _, s := range []*site{a, b} {
			if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 {
				t.Fatal(r)
			}
		}
		before := up.count("initialize")
		up.forget()
		var mu sync.Mutex
		got := map[string]bool{}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				s := []*site{a, b}[i%2]
				r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...)
				if r.status != 200 || !strings.Contains(r.body, "upstream-") {
					t.Errorf("%d %s", r.status, r.body)
				}
				mu.Lock()
				defer mu.Unlock()
				got[r.body] = true
			})
		}
		wg.Wait()
		if n := up.count("initialize") - before; n < 1 || n > 2 {
			t.Errorf("round %d: %d handshakes, answers %v", round, n, got)
		}
		eventually(t, func() bool { // both have folded who was last
			return a.raw("POST", callTool, post("Mcp-Session-Id", id)...).body == b.raw("POST", callTool, post("Mcp-Session-Id", id)...).body
		})
	}
}

// A session that has slept goes on with its upstream session, or its server in process is made again.
func TestHibernation(t *testing.T) {
	upstreams(t, func(t *testing.T, up gateway.Upstream, srv *server) {
		t.Helper()
		s := newSite(t)
		r := s.boot(up, setup{engine: func(o *engine.Options) { o.HibernateAfter = 20 * time.Millisecond }})
		_ = s.client()
		id := s.session()
		for i := range 3 {
			eventually(t, func() bool { return r.engine.SessionInfo().Live <= 1 }) // the Go client listens
			if got := s.raw("POST", ping, post("Mcp-Session-Id", id)...); got.status != 200 {
				t.Fatalf("%d: %+v", i, got)
			}
		}
		if srv != nil && srv.door.count("POST Not Found") > 0 {
			t.Errorf("%q", srv.door.asked)
		}
	})
}

// A session that hibernates after its upstream restarted is not taken for lost when it wakes.
func TestHibernationAfterRestart(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()), setup{engine: func(o *engine.Options) { o.HibernateAfter = 50 * time.Millisecond }})
	ids := []string{s.session(), s.session(), s.session(), s.session(), s.session()}
	up.crash()
	up.start()
	for range 3 {
		for _, id := range ids {
			if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 || !strings.Contains(r.body, "upstream-") {
				t.Fatal(r)
			}
		}
		eventually(t, func() bool { return r.engine.SessionInfo().Live == 0 })
	}
	if n := up.count("initialize"); n != 10 {
		t.Errorf("%d handshakes", n)
	}
}

// An imported session has no handshake to replay: one is made of its first request.
func TestImportedSession(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	id := gateway.Identifier{Name: s.ring.Name, Context: readContext}
	boot := func() *replica {
		return s.boot(httpUpstream(t, up.door.url()), setup{
			gateway: func(o *gateway.Options) { o.Identify = id.Identify },
			engine: func(o *engine.Options) {
				o.Identify = func(ic engine.InstanceContext) (engine.Identity, error) {
					one := id
					one.Context = func(http.Header) (*engine.InstanceContext, error) { return &ic, nil }
					c, err := one.Identify(&http.Request{})
					return engine.Identity{Tenant: c.Tenant, Label: c.Label, URLHash: c.URLHash}, err
				}
			},
		})
	}
	r := boot()
	const sid = "instance-i1-imported"
	now := time.Now().UTC()
	res, err := r.engine.RestoreSessionState(t.Context(), []engine.SessionState{{
		SessionID: sid, Metadata: engine.SessionMetadata{CreatedAt: now, LastAccess: now},
		Context: engine.InstanceContext{N8nAPIURL: "https://one.example", N8nAPIKey: "k1", InstanceID: "i1"},
	}})
	must(t, err)
	if res.Restored != 1 {
		t.Fatalf("%+v", res)
	}
	header := post("Mcp-Session-Id", sid, "X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1", "Mcp-Protocol-Version", "2025-06-18")
	for i := range 3 {
		if got := s.raw("POST", callTool, header...); got.status != 200 {
			t.Fatalf("%d: %+v", i, got)
		}
		if i == 0 {
			r.kill()
			up.forget()
			r = boot()
		}
	}
	if got := s.raw("POST", callTool, post("Mcp-Session-Id", sid)...); got.status != 404 {
		t.Errorf("without its context: %+v", got)
	}
	if n := up.count("initialize"); n != 2 {
		t.Errorf("%d handshakes", n)
	}
}
