package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// ear is an observer that keeps what it has heard.
type ear struct {
	mu     sync.Mutex
	denied []gateway.Denial
	turns  []bool
}

func (e *ear) RequestDenied(why gateway.Denial) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.denied = append(e.denied, why)
}

func (e *ear) UpstreamReachable(yes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turns = append(e.turns, yes)
}

// reachable is what was said last.
func (e *ear) reachable() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.turns) == 0 || e.turns[len(e.turns)-1]
}

// freezing is an upstream that at will takes connections, reads requests and answers nothing; or nothing but pings.
type freezing struct {
	*stubborn

	mu     sync.Mutex
	frozen func(m msg) bool // nil: it is not
	thaw   chan struct{}
}

func newFreezing(tb testing.TB) *freezing {
	tb.Helper()
	f := &freezing{stubborn: newStubborn(tb), thaw: make(chan struct{})}
	f.door.open(f)
	return f
}

func (f *freezing) freeze(which func(msg) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = which
}

func (f *freezing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	frozen := f.frozen
	f.mu.Unlock()
	if frozen != nil && r.Method == "POST" {
		body := readAll(r)
		m := asMessage(body)
		r.Body = nopBody(body)
		if frozen(m) {
			select {
			case <-f.thaw:
			case <-r.Context().Done():
				return
			}
		}
	}
	f.stubborn.ServeHTTP(w, r)
}

func asMessage(body string) (m msg) {
	_ = json.Unmarshal([]byte(body), &m)
	return m
}

func everything(msg) bool { return true }

const listTools = `{"jsonrpc":"2.0","id":"l1","method":"tools/list"}`

// An upstream that takes connections and answers nothing is an outage like one that refuses them: in the log, for the
// observer, and for the clients, whose waiting ends.
func TestMuteUpstream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body   string
		status int
		said   string
		id     bool
	}{
		"initialize": {initialize, 503, "-32050", false},
		"a read":     {listTools, 200, "-32051", true},
		"a call":     {callTool, 200, "-32051", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := newFreezing(t)
			s := newSite(t)
			var log lines
			var e ear
			s.boot(httpUpstream(t, up.door.url()), setup{waker: func(o *gateway.WakerOptions) {
				o.Logger, o.UpstreamWait, o.QuickWait, o.AnswerWait, o.Observer = zerolog.New(&log), time.Millisecond, 10*time.Second, 12*time.Second, &e
			}})
			id := s.session()
			up.freeze(everything)
			header := post()
			if c.id {
				header = post("Mcp-Session-Id", id)
			}
			got := s.raw("POST", c.body, header...)
			if got.status != c.status || !strings.Contains(got.body, c.said) || c.status == 503 && got.header.Get("Retry-After") == "" {
				t.Errorf("%d %v %s", got.status, got.header, got.body)
			}
			if e.reachable() || !strings.Contains(log.String(), "does not answer") {
				t.Errorf("not told; log:\n%s", log.String())
			}
			up.freeze(nil)
			close(up.thaw)
			eventually(t, func() bool {
				got := s.raw("POST", listTools, post("Mcp-Session-Id", id)...)
				return got.status == 200 && !strings.Contains(got.body, "error") && e.reachable()
			})
		})
	}
}

// A tool may take its time: while the upstream answers a ping, or anybody else, a call waits, however long. So it is where
// sessions have no IDs, and where there are none.
func TestSlowCallIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		open func(t *testing.T, work http.HandlerFunc) *door
		sign string
	}{
		"a session": {func(t *testing.T, work http.HandlerFunc) *door {
			t.Helper()
			up := newStubborn(t)
			up.door.open(before(work, up))
			return up.door
		}, "ping"},
		"a session without an ID": {func(t *testing.T, work http.HandlerFunc) *door {
			t.Helper()
			up := newStubborn(t)
			up.door.open(before(work, nameless(up)))
			return up.door
		}, "ping"},
		"no session": {func(t *testing.T, work http.HandlerFunc) *door {
			t.Helper()
			up := newModern(t, done)
			up.door.open(before(work, up))
			return up.door
		}, "server/discover"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, thaw := make(chan struct{}, 100), make(chan struct{})
			up := c.open(t, func(_ http.ResponseWriter, r *http.Request) {
				body := readAll(r)
				r.Body = nopBody(body)
				switch asMessage(body).Method {
				case c.sign:
					asked <- struct{}{}
				case "tools/call":
					select {
					case <-thaw:
					case <-r.Context().Done():
					}
				}
			})
			s := newSite(t)
			var e ear
			s.boot(httpUpstream(t, up.url()), setup{waker: func(o *gateway.WakerOptions) {
				o.QuickWait, o.AnswerWait, o.Observer = 15*time.Second, 1, &e // the longer counts; a third of it between looks
			}})
			call, header := stateless("tools/call", `,"name":"echo"`), postNext("Mcp-Method", "tools/call", "Mcp-Name", "echo")
			if c.sign == "ping" {
				call, header = callTool, post("Mcp-Session-Id", s.session())
			}
			got := make(chan reply, 1)
			go func() { got <- s.raw("POST", call, header...) }()
			for range 5 { // signs of life that were asked for, beyond its patience
				select {
				case <-asked:
				case r := <-got:
					t.Fatalf("given up: %d %s", r.status, r.body)
				}
			}
			close(thaw)
			if r := <-got; r.status != 200 || strings.Contains(r.body, "error") {
				t.Errorf("%d %s", r.status, r.body)
			}
			if !e.reachable() {
				t.Error("told as an outage")
			}
		})
	}
}

// before has h serve what first has looked at.
func before(first http.HandlerFunc, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first(w, r)
		h.ServeHTTP(w, r)
	})
}

// nameless is up without IDs for its sessions, of which there is one.
func nameless(up http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Mcp-Session-Id", "upstream-1")
		up.ServeHTTP(unnamed{w}, r)
	})
}

type unnamed struct{ http.ResponseWriter }

func (w unnamed) WriteHeader(status int) {
	w.Header().Del("Mcp-Session-Id")
	w.ResponseWriter.WriteHeader(status)
}

func (w unnamed) Write(p []byte) (int, error) {
	w.Header().Del("Mcp-Session-Id")
	return w.ResponseWriter.Write(p)
}
