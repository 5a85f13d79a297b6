package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// Log level and subscriptions hold over a sleep and a restart of the gateway, whatever kind the upstream is.
func TestWishesOutliveSleep(t *testing.T) {
	for name, make := range map[string]func(*testing.T) (up gateway.Upstream, forget func()){
		"http": func(t *testing.T) (gateway.Upstream, func()) {
			t.Helper()
			d := newDoor(t)
			var made []*mcp.Server
			end := func() {
				d.shut()
				for _, m := range made {
					for cs := range m.Sessions() {
						_ = cs.Close()
					}
				}
			}
			t.Cleanup(end)
			start := func() {
				end()
				m := newTools()
				made = append(made, m)
				moreTools(m)
				d.open(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return m }, nil))
			}
			start()
			return httpUpstream(t, d.url()), start
		},
		"stdio": func(t *testing.T) (gateway.Upstream, func()) {
			t.Helper()
			return stdioUpstream(t, stdio.Options{}, "more"), func() {}
		},
		"in process": func(*testing.T) (gateway.Upstream, func()) {
			return gateway.NewInProcess(func(engine.InstanceContext) (*mcp.Server, error) {
				m := newTools()
				moreTools(m)
				return m, nil
			}), func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			up, forget := make(t)
			s := newSite(t)
			drowsy := setup{engine: func(o *engine.Options) { o.HibernateAfter = 50 * time.Millisecond }}
			r := s.boot(up, drowsy)
			id := s.session()
			for _, body := range []string{
				`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`,
				`{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"test://a"}}`,
			} {
				if got := s.raw("POST", body, post("Mcp-Session-Id", id)...); got.status != 200 || strings.Contains(got.body, "error") {
					t.Fatal(got)
				}
			}
			for _, sleeps := range []bool{true, false} {
				if sleeps {
					eventually(t, func() bool { return r.engine.SessionInfo().Live == 0 })
				} else {
					r.kill()
				}
				forget()
				if !sleeps {
					r = s.boot(up, drowsy)
				}
				s.wants(id, "log", "psst", "psst")
				s.wants(id, "update", "test://a", "notifications/resources/updated")
			}
		})
	}
}

// wants calls a tool until what it has sent is heard, on the session's own stream or with the answer.
func (s *site) wants(id, tool, text, heard string) {
	s.tb.Helper()
	l := s.listen(id)
	l.wait(": ok")
	eventually(s.tb, func() bool { // the upstream's own stream may not be carried yet
		got := s.raw("POST", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"text":"`+text+`"}}}`, post("Mcp-Session-Id", id)...)
		if strings.Contains(got.body, heard) {
			return true
		}
		for {
			select {
			case line := <-l.lines:
				if strings.Contains(line, heard) {
					return true
				}
				continue
			case <-time.After(20 * time.Millisecond):
			}
			return false
		}
	})
	l.cancel()
}

// A connection that breaks while the client's wishes are told to a new upstream session costs none of them.
func TestWishesOutliveABrokenHandshake(t *testing.T) {
	up := newStubborn(t)
	var once sync.Once
	var breaking atomic.Bool
	front := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := readAll(r)
		r.Body = nopBody(body)
		if breaking.Load() && asMessage(body).Method == "resources/subscribe" {
			broken := false
			once.Do(func() { broken = true })
			if broken {
				panic(http.ErrAbortHandler)
			}
		}
		up.ServeHTTP(w, r)
	})
	up.door.open(front)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	if got := s.raw("POST", `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"test://a"}}`, post("Mcp-Session-Id", id)...); got.status != 200 {
		t.Fatal(got)
	}
	up.door.shut()
	up.forget()
	breaking.Store(true)
	up.door.open(front)
	if got := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); got.status != 200 || !strings.Contains(got.body, "upstream-3") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if n := up.count("resources/subscribe"); n != 2 { // one of them at the session that answered the call
		t.Errorf("%d subscriptions: %q", n, up.calls)
	}
}
