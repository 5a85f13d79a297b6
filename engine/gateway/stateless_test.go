package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// modern is an upstream of the protocol without sessions that notes what it gets.
type modern struct {
	door  *door
	serve func(w http.ResponseWriter, r *http.Request, m msg) // answers what is no discover

	mu     sync.Mutex
	seen   []*http.Request
	bodies []string
	deny   int // the status with which everything is refused; zero = nothing is
}

func newModern(tb testing.TB, serve func(http.ResponseWriter, *http.Request, msg)) *modern {
	tb.Helper()
	m := &modern{door: newDoor(tb), serve: serve}
	m.door.open(m)
	return m
}

func (u *modern) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen, u.bodies = append(u.seen, r), append(u.bodies, string(body))
	deny := u.deny
	u.mu.Unlock()
	var m msg
	_ = json.Unmarshal(body, &m)
	switch {
	case deny != 0:
		w.WriteHeader(deny)
	case m.Method == "server/discover":
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`, m.ID)
	default:
		u.serve(w, r, m)
	}
}

// got returns the methods of what came in, in order.
func (u *modern) got() (methods []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, b := range u.bodies {
		var m msg
		_ = json.Unmarshal([]byte(b), &m)
		methods = append(methods, m.Method)
	}
	return methods
}

func (u *modern) denying(status int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.deny = status
}

func done(w http.ResponseWriter, _ *http.Request, m msg) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete"}}`, m.ID)
}

// breakOff breaks the connection of a request.
func breakOff(http.ResponseWriter, *http.Request, msg) { panic(http.ErrAbortHandler) }

const metaNext = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`

func stateless(method, more string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + metaNext + more + `}}`
}

func postNext(more ...string) []string {
	return post(append([]string{"Mcp-Protocol-Version", "2026-07-28"}, more...)...)
}

// An upstream that does not speak the protocol without sessions is asked once, and clients get the protocol's error.
func TestStatelessNotSpoken(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	for range 5 {
		r := s.raw("POST", stateless("server/discover", ""), postNext()...)
		var m struct {
			Error struct {
				Data struct {
					Supported []string
					Requested string
				}
			}
		}
		must(t, json.Unmarshal([]byte(r.body), &m))
		if d := m.Error.Data; r.status != 400 || rpcCode(t, r.body) != -32022 || !slices.Contains(d.Supported, "2025-11-25") || d.Requested != "2026-07-28" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if up.failures != 1 {
		t.Errorf("asked %d times", up.failures)
	}
	if cs := s.client(); cs.ID() == "" { // it tries the new protocol first, and goes on with the old one
		t.Error("no session")
	}
}

// Whoever sends something malformed learns it from the upstream, and nobody else suffers.
func TestStatelessSpoken(t *testing.T) {
	srv := newServer(t, mcp.StreamableHTTPOptions{Stateless: true})
	s := newSite(t)
	r := s.boot(httpUpstream(t, srv.url()))
	for _, bad := range []struct {
		body   string
		header []string
		status int
		code   int
	}{
		{`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}`, postNext(), 400, -32602},
		{stateless("server/discover", ""), post("Mcp-Protocol-Version", "2099-01-01"), 400, -32020},
		{stateless("tools/list", ""), post(), 400, -32020},
		{stateless("server/nonsense", ""), postNext("Mcp-Method", "server/nonsense"), 404, -32601},
	} {
		got := s.raw("POST", bad.body, bad.header...)
		if got.status != bad.status || rpcCode(t, got.body) != bad.code {
			t.Errorf("%s: %d %s", bad.body, got.status, got.body)
		}
	}
	cs := s.client()
	if got := call(t, cs, "echo", "x"); got != "x" || cs.ID() != "" || r.engine.SessionInfo().Sessions != 0 {
		t.Errorf("%q %q", got, cs.ID())
	}
}

// Headers and body reach the upstream as the client sent them.
func TestStatelessUntouched(t *testing.T) {
	up := newModern(t, done)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	body := "{ \"jsonrpc\": \"2.0\",\n \"id\": 1, \"method\":\"tools/call\", \"params\": {\"name\":\"ä\", " + metaNext + ", \"arguments\":{\"b\":1,\"a\":\"\\u00e4\"}}}\n"
	want := http.Header{
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"=?base64?w6Q=?="},
		"Mcp-Param-Region": {"us-west1"}, "Authorization": {"Bearer x"}, "Traceparent": {"00-1-2-03"},
	}
	var header []string
	for name, vals := range want {
		header = append(header, name, vals[0])
	}
	if r := s.raw("POST", body, post(header...)...); r.status != 200 {
		t.Fatal(r)
	}
	if got := up.got(); !slices.Equal(got, []string{"server/discover", "tools/call"}) {
		t.Fatal(got)
	}
	for name := range want {
		if got := up.seen[1].Header[name]; !slices.Equal(got, want[name]) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if up.bodies[1] != body {
		t.Errorf("%q", up.bodies[1])
	}
	if h := up.seen[0].Header; h.Get("Mcp-Method") != "server/discover" || h["Mcp-Name"] != nil || h["Mcp-Param-Region"] != nil || h.Get("Authorization") != "Bearer x" {
		t.Errorf("discover with %v", h)
	}
}

// Which requests are taken for the new protocol's: by header or _meta, but not those of a session.
func TestStatelessTold(t *testing.T) {
	up := newModern(t, done)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	for _, c := range []struct {
		name, body string
		header     []string
		passed     bool
	}{
		{"header", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, postNext(), true},
		{"meta", stateless("tools/list", ""), post(), true},
		{"older header", stateless("tools/list", ""), post("Mcp-Protocol-Version", "2025-11-25"), true},
		{"initialize with meta", stateless("initialize", ""), postNext(), true},
		{"neither", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, post(), false},
		{"session", stateless("tools/list", ""), postNext("Mcp-Session-Id", "s"), false},
	} {
		before := len(up.got())
		s.raw("POST", c.body, c.header...)
		got := up.got()[before:]
		passed := slices.ContainsFunc(got, func(m string) bool { return m != "server/discover" })
		if passed != c.passed {
			t.Errorf("%s: upstream got %v", c.name, got)
		}
	}
}

// An upstream that lets nobody in has not told which protocol it speaks.
func TestStatelessRefused(t *testing.T) {
	up := newModern(t, done)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	for _, status := range []int{401, 403, 429, 500} {
		up.denying(status)
		if r := s.raw("POST", stateless("tools/list", ""), postNext()...); r.status != status {
			t.Errorf("%d, not %d: %s", r.status, status, r.body)
		}
	}
	up.denying(0)
	if r := s.raw("POST", stateless("tools/list", ""), postNext()...); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// What may have been executed is not repeated; a read is, and everything waits for an upstream that is down.
func TestStatelessBroken(t *testing.T) {
	var once sync.Once
	up := newModern(t, func(w http.ResponseWriter, r *http.Request, m msg) {
		if m.Method == "tools/call" {
			breakOff(w, r, m)
		}
		once.Do(func() { breakOff(w, r, m) })
		done(w, r, m)
	})
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	if r := s.raw("POST", stateless("tools/call", `,"name":"x"`), postNext()...); rpcCode(t, r.body) != -32051 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := s.raw("POST", stateless("tools/list", ""), postNext()...); r.status != 200 || strings.Contains(r.body, "error") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if got := up.got(); !slices.Equal(got, []string{"server/discover", "tools/call", "tools/list", "tools/list"}) {
		t.Error(got)
	}
	up.door.shut()
	answered := make(chan reply, 1)
	go func() { answered <- s.raw("POST", stateless("tools/list", ""), postNext()...) }()
	up.door.open(up)
	if r := <-answered; r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// A stream that breaks or ends before its response ends with an error; what came before has arrived.
func TestStatelessStreamBroken(t *testing.T) {
	for name, end := range map[string]func(){"breaks": func() { panic(http.ErrAbortHandler) }, "ends": func() {}} {
		t.Run(name, func(t *testing.T) {
			up := newModern(t, func(w http.ResponseWriter, _ *http.Request, _ msg) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, ": hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\ndata: {\"half")
				_ = http.NewResponseController(w).Flush()
				end()
			})
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()))
			r := s.raw("POST", stateless("tools/call", `,"name":"x"`), postNext()...)
			if !strings.HasPrefix(r.body, ": hello\n\n") || !strings.Contains(r.body, "notifications/progress") ||
				!strings.Contains(r.body, `"id":1,"error":{"code":-32051`) || strings.Contains(r.body, "half") {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
}

// The stream of subscriptions/listen comes through as it is sent, is kept alive, and does not hold up a shutdown.
func TestStatelessListen(t *testing.T) {
	up := newModern(t, func(w http.ResponseWriter, r *http.Request, _ msg) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\"}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()), setup{waker: func(o *gateway.WakerOptions) { o.Keepalive = 10 * time.Millisecond }})
	acknowledged, alive, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var first, second sync.Once
		s.stream(stateless("subscriptions/listen", `,"notifications":{}`), "", func(l string) {
			switch {
			case strings.Contains(l, "acknowledged"):
				first.Do(func() { close(acknowledged) })
			case l == ": keepalive":
				second.Do(func() { close(alive) })
			}
		}, postNext()...)
	}()
	for _, c := range []chan struct{}{acknowledged, alive} {
		select {
		case <-c:
		case <-time.After(testPatience):
			t.Fatal("no event")
		}
	}
	must(t, r.Shutdown(t.Context()))
	<-ended
}

// In a session, too, the version that a client names in a request is the version that the upstream hears; one that
// names none speaks what it has negotiated.
func TestVersionHeader(t *testing.T) {
	up := newStubborn(t)
	var mu sync.Mutex
	var heard []string
	up.door.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		heard = append(heard, r.Header.Get("Mcp-Protocol-Version"))
		mu.Unlock()
		up.ServeHTTP(w, r)
	}))
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	want := []string{"", "2025-06-18"} // initialize, initialized
	for header, hears := range map[string]string{"": "2025-06-18", "2025-03-26": "2025-03-26", "2025-11-25": "2025-11-25"} {
		h := post("Mcp-Session-Id", id)
		if header != "" {
			h = append(h, "Mcp-Protocol-Version", header)
		}
		s.raw("POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, h...)
		want = append(want, hears)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}
