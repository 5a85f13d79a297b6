package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// stubborn is an upstream that says "I do not know this session" in its own way, counts what it is asked,
// and locks an address out that knocks with stale sessions too often.
type stubborn struct {
	door *door

	dialect  func(w http.ResponseWriter, r *http.Request, m msg) // answers for an unknown session
	get      func(w http.ResponseWriter)                         // answers a GET; nil = 405
	version  string
	lockout  int           // failures that lock out; zero = never
	refuse   int           // the status with which initialize is refused; zero = it is not
	amnesia  bool          // a session is forgotten with the first request after its handshake
	evicting bool          // a new session ends the one before
	hold     chan struct{} // if not nil, tools/call waits for it

	mu       sync.Mutex
	sessions map[string]bool // initialized?
	next     int
	failures int
	calls    []string // methods, in order, with what they say of themselves
	gets     int
}

type msg struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

func newStubborn(tb testing.TB) *stubborn {
	tb.Helper()
	s := &stubborn{door: newDoor(tb), sessions: make(map[string]bool), version: "2025-06-18", dialect: say404}
	s.door.open(s)
	return s
}

// forget is a restart so quick that nobody sees it.
func (s *stubborn) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

func (s *stubborn) crash() {
	s.door.slam(s)
	s.forget()
}

func (s *stubborn) start() { s.door.open(s) }

func rpcFault(w http.ResponseWriter, status, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"jsonrpc":"2.0","error":{"code":%d,"message":%q},"id":null}`, code, text)
}

func say404(w http.ResponseWriter, _ *http.Request, _ msg) { http.Error(w, "session not found", 404) }

func (s *stubborn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lockout > 0 && s.failures >= s.lockout {
		rpcFault(w, 429, -32000, "Too many authentication attempts")
		return
	}
	id := r.Header.Get("Mcp-Session-Id")
	_, known := s.sessions[id]
	switch r.Method {
	case "GET":
		s.gets++
		if s.get == nil {
			s.failures++
			w.WriteHeader(405)
			return
		}
		s.get(w)
		return
	case "DELETE":
		delete(s.sessions, id)
		return
	}
	var m msg
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		w.WriteHeader(400)
		return
	}
	s.calls = append(s.calls, m.Method)
	switch {
	case m.Method == "initialize":
		s.initialize(w, m)
	case !known:
		s.failures++
		s.dialect(w, r, m)
	default:
		s.answer(w, id, m)
	}
}

func (s *stubborn) initialize(w http.ResponseWriter, m msg) {
	if s.refuse > 0 {
		w.Header().Set("Www-Authenticate", "Bearer realm=x")
		rpcFault(w, s.refuse, -32000, "no")
		return
	}
	if s.evicting {
		clear(s.sessions)
	}
	s.next++
	id := fmt.Sprintf("upstream-%d", s.next)
	s.sessions[id] = false
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Mcp-Session-Id", id)
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%q,"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"%d"}}}`, m.ID, s.version, s.next)
}

func (s *stubborn) answer(w http.ResponseWriter, id string, m msg) {
	if m.ID == nil || m.Method == "" {
		s.sessions[id] = s.sessions[id] || m.Method == "notifications/initialized"
		w.WriteHeader(202)
		return
	}
	if s.amnesia {
		delete(s.sessions, id)
		s.dialect(w, nil, m)
		return
	}
	if hold := s.hold; hold != nil && m.Method == "tools/call" {
		s.mu.Unlock()
		<-hold
		s.mu.Lock()
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"result":{"content":[{"type":"text","text":%q}]},"jsonrpc":"2.0","id":%s}`, id, m.ID)
}

func (s *stubborn) count(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == method {
			n++
		}
	}
	return n
}

const callTool = `{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"echo","arguments":{}}}`

func TestDialectsOfLoss(t *testing.T) {
	for name, dialect := range map[string]func(http.ResponseWriter, *http.Request, msg){
		"404 plain": say404,
		"404 empty": func(w http.ResponseWriter, _ *http.Request, _ msg) { w.WriteHeader(404) },
		"n8n-mcp": func(w http.ResponseWriter, _ *http.Request, _ msg) {
			rpcFault(w, 404, -32000, "Session not found or expired")
		},
		"n8n-mcp, older": func(w http.ResponseWriter, _ *http.Request, _ msg) {
			rpcFault(w, 400, -32000, "Bad Request: Session not found or expired")
		},
		"n8n-mcp, form": func(w http.ResponseWriter, _ *http.Request, _ msg) {
			rpcFault(w, 400, -32000, "Bad Request: Invalid session ID format")
		},
		"server-everything": func(w http.ResponseWriter, _ *http.Request, _ msg) {
			rpcFault(w, 400, -32000, "Bad Request: No valid session ID provided")
		},
		"typescript sdk": func(w http.ResponseWriter, _ *http.Request, _ msg) {
			rpcFault(w, 400, -32000, "Bad Request: Server not initialized")
		},
		"typescript sdk, found": func(w http.ResponseWriter, _ *http.Request, _ msg) { rpcFault(w, 404, -32001, "Session not found") },
		"plain text 400": func(w http.ResponseWriter, _ *http.Request, _ msg) {
			http.Error(w, "Invalid or missing session ID", 400)
		},
	} {
		t.Run(name, func(t *testing.T) {
			up := newStubborn(t)
			up.dialect = dialect
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()))
			id := s.session("Mcp-Protocol-Version", "2025-06-18")
			up.forget()
			for range 3 {
				r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...)
				if want := `{"result":{"content":[{"type":"text","text":"upstream-2"}]},"jsonrpc":"2.0","id":"c1"}`; r.status != 200 || r.body != want {
					t.Fatalf("%d %s", r.status, r.body)
				}
			}
			if up.count("tools/call") != 4 || up.count("initialize") != 2 || up.count("notifications/initialized") != 2 {
				t.Errorf("%q", up.calls)
			}
			if n := s.raw("POST", `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, post("Mcp-Session-Id", id)...); n.status != 202 {
				t.Errorf("notification: %+v", n)
			}
		})
	}
}

// Any other 400 means what it says.
func TestOther400sArePassedOn(t *testing.T) {
	for name, dialect := range map[string]func(http.ResponseWriter){
		"bad params":  func(w http.ResponseWriter) { rpcFault(w, 400, -32602, "Invalid params: session is missing") },
		"bad request": func(w http.ResponseWriter) { rpcFault(w, 400, -32000, "Bad Request: what is this?") },
		"long text":   func(w http.ResponseWriter) { http.Error(w, fmt.Sprintf("session not found %0300d", 0), 400) },
	} {
		t.Run(name, func(t *testing.T) {
			up := newStubborn(t)
			up.dialect = func(w http.ResponseWriter, _ *http.Request, _ msg) { dialect(w) }
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()))
			id := s.session()
			up.forget()
			if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 400 {
				t.Errorf("%d %s", r.status, r.body)
			}
			if n := up.count("initialize"); n != 1 {
				t.Errorf("%d handshakes", n)
			}
		})
	}
}

// An upstream that forgets every session at once is not asked for ever.
func TestUpstreamThatKeepsNothing(t *testing.T) {
	for _, status := range []int{400, 404} {
		up := newStubborn(t)
		up.dialect = func(w http.ResponseWriter, _ *http.Request, _ msg) {
			rpcFault(w, status, -32000, "No valid session ID provided")
		}
		s := newSite(t)
		s.boot(httpUpstream(t, up.door.url()))
		id := s.session()
		up.forget()
		up.mu.Lock()
		up.amnesia = true
		up.mu.Unlock()
		r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...)
		if r.status != 502 && r.status != status || r.status == 404 || up.count("initialize") > 5 {
			t.Errorf("%d %s after %d handshakes", r.status, r.body, up.count("initialize"))
		}
	}
}

// Forty clients come back at once to an upstream that has restarted and takes no more than twenty stale knocks.
func TestNobodyIsLockedOut(t *testing.T) {
	for name, c := range map[string]struct {
		outage func(up *stubborn, s *site, r *replica)
		most   int
	}{
		"crash seen": {func(up *stubborn, s *site, _ *replica) {
			up.crash()
			done := make(chan struct{})
			go func() {
				defer close(done)
				time.Sleep(300 * time.Millisecond)
				up.start()
			}()
			s.tb.Cleanup(func() { <-done })
		}, 2},
		"crash unseen": {func(up *stubborn, _ *site, _ *replica) {
			time.Sleep(2100 * time.Millisecond)
			up.forget()
		}, 4},
		"both restarted": {func(up *stubborn, s *site, r *replica) {
			r.kill()
			up.forget()
			s.boot(httpUpstream(s.tb, up.door.url()))
		}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			up := newStubborn(t)
			up.lockout = 20
			s := newSite(t)
			r := s.boot(httpUpstream(t, up.door.url()))
			var ids []string
			for range 40 {
				ids = append(ids, s.session())
			}
			began := time.Now()
			c.outage(up, s, r)
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() {
					r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...)
					if r.status != 200 || !strings.Contains(r.body, "upstream-") {
						t.Errorf("%d %s", r.status, r.body)
					}
				})
			}
			wg.Wait()
			up.mu.Lock()
			failures := up.failures
			up.mu.Unlock()
			// Each silence of two seconds, on a busy machine, is a new doubt.
			if most := c.most + 3*int(time.Since(began)/(2*time.Second)); failures > most || up.count("initialize") != 80 {
				t.Errorf("%d stale knocks, %d handshakes", failures, up.count("initialize"))
			}
		})
	}
}

// A restart of the gateway alone costs no handshake, however many sessions wake.
func TestGatewayRestartKeepsUpstreamSessions(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()))
	var ids []string
	for range 20 {
		ids = append(ids, s.session())
	}
	r.kill()
	began := time.Now()
	s.boot(httpUpstream(t, up.door.url()))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			want := fmt.Sprintf(`{"result":{"content":[{"type":"text","text":"upstream-%d"}]},"jsonrpc":"2.0","id":"c1"}`, i+1)
			if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.body != want {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	wg.Wait()
	up.mu.Lock()
	failures := up.failures
	up.mu.Unlock()
	silences := int(time.Since(began) / (2 * time.Second)) // on a busy machine; each is a new doubt
	if up.count("initialize") != 20 || up.count("ping") > 1+silences || failures > 0 {
		t.Errorf("%d handshakes, %d pings", up.count("initialize"), up.count("ping"))
	}
}

// One session waits for one handshake, however many of its requests find it lost.
func TestHandshakeIsShared(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	up.forget()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	wg.Wait()
	if n := up.count("initialize"); n != 2 {
		t.Errorf("%d handshakes", n)
	}
}

func TestAnotherVersionEndsTheSession(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	up.forget()
	up.version = "2025-03-26"
	for range 2 {
		if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 404 {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if n := r.engine.SessionInfo().Sessions; n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// Late answers and notes on requests of a lost session wake nothing.
func TestBygonesAreAccepted(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	up.forget()
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":"e1.x","result":{}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, //nolint:misspell // the protocol's spelling
	} {
		if r := s.raw("POST", body, post("Mcp-Session-Id", id)...); r.status != 202 {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if n := up.count("initialize"); n != 1 {
		t.Errorf("%d handshakes", n)
	}
}

// The upstream's GET stream is asked for once, whoever asks first and however many ask at once.
func TestRefusedGETIsRemembered(t *testing.T) {
	for name, get := range map[string]func(http.ResponseWriter){
		"405": nil,
		"400": func(w http.ResponseWriter) { http.Error(w, `{"error":"SSE transport uses /sse endpoint"}`, 400) },
		"404": func(w http.ResponseWriter) { w.WriteHeader(404) },
	} {
		t.Run(name, func(t *testing.T) {
			up := newStubborn(t)
			up.get = get
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()))
			for range 20 {
				l := s.listen(s.session())
				l.wait(": ok")
			}
			eventually(t, func() bool { up.mu.Lock(); defer up.mu.Unlock(); return up.gets == 1 })
		})
	}
}

// A session that cannot be journaled leaves none behind at the upstream: servers bound how many they keep.
func TestUpstreamSessionOfAFailedInitializeIsEnded(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	s.session()
	s.journal.SetDown(true)
	if r := s.raw("POST", initialize, post()...); r.status != 503 || r.header.Get("Mcp-Session-Id") != "" {
		t.Errorf("%+v", r)
	}
	eventually(t, func() bool { up.mu.Lock(); defer up.mu.Unlock(); return up.next == 2 && len(up.sessions) == 1 })
	s.journal.SetDown(false)
	eventually(t, func() bool { return s.raw("POST", initialize, post()...).status == 200 })
}

func TestUpstreamThatEvictsIsSlowedDown(t *testing.T) {
	up := newStubborn(t)
	up.evicting = true
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	a, b := s.session(), s.session()
	began := time.Now()
	for range 3 {
		for _, id := range []string{a, b} {
			if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 {
				t.Errorf("%d %s", r.status, r.body)
			}
		}
	}
	if time.Since(began) < 200*time.Millisecond {
		t.Error("not slowed down")
	}
}

// What an upstream says when it does not open a session again never tells the client that its own has ended.
func TestUpstreamRefusesToReopen(t *testing.T) {
	for status, want := range map[int]int{404: 502, 400: 502, 401: 401, 403: 403, 429: 429, 500: 500, 503: 503} {
		up := newStubborn(t)
		s := newSite(t)
		s.boot(httpUpstream(t, up.door.url()))
		id := s.session()
		up.forget()
		up.mu.Lock()
		up.refuse = status
		up.mu.Unlock()
		r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...)
		if r.status != want || r.header.Get("Www-Authenticate") != "Bearer realm=x" || strings.Contains(r.body, "dormouse-") {
			t.Errorf("%d became %d %v %s", status, r.status, r.header, r.body)
		}
		up.mu.Lock()
		up.refuse = 0
		up.mu.Unlock()
		if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 {
			t.Errorf("after %d: %d %s", status, r.status, r.body)
		}
	}
}
