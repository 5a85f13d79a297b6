package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// A list change of the server reaches the client, over the restart of whatever is between them.
func TestServerMessagesOnGET(t *testing.T) {
	upstreams(t, func(t *testing.T, up gateway.Upstream, srv *server) {
		t.Helper()
		if srv == nil {
			t.Log("the servers in process are each session's own")
			return
		}
		s := newSite(t)
		r := s.boot(up)
		heard := make(chan struct{}, 1)
		cs := s.client(func(o *mcp.ClientOptions) {
			o.ToolListChangedHandler = func(context.Context, *mcp.ToolListChangedRequest) {
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		})
		n := 0
		expect := func(what string) {
			t.Helper()
			for range 1000 {
				n++
				mcp.AddTool(srv.latest(), &mcp.Tool{Name: fmt.Sprint("new", n)}, echo)
				select {
				case <-heard:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
			t.Fatalf("nothing heard after %s", what)
		}
		expect("nothing")
		srv.restart()
		expect("the upstream's restart")
		r.kill()
		s.boot(up)
		expect("the gateway's restart")
		_ = call(t, cs, "echo", "x")
	})
}

func TestNewestGETWins(t *testing.T) {
	srv := newServer(t, mcp.StreamableHTTPOptions{})
	s := newSite(t)
	s.boot(httpUpstream(t, srv.url()), setup{waker: func(o *gateway.WakerOptions) { o.Keepalive = 20 * time.Millisecond }})
	id := s.session()
	first := s.listen(id)
	first.wait(": keepalive")
	second := s.listen(id)
	first.ended()
	second.wait(": keepalive")
	third := s.listen(id)
	second.ended()
	third.wait(": ok")
	// What the upstream says while its stream goes over from one client's to the next reaches nobody.
	heard := make(chan struct{})
	var says sync.WaitGroup
	says.Go(func() {
		for n := 0; ; n++ {
			mcp.AddTool(srv.latest(), &mcp.Tool{Name: fmt.Sprint("new", n)}, echo)
			select {
			case <-heard:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	third.wait("data: ")
	close(heard)
	says.Wait()
	if r := s.raw("DELETE", "", "Mcp-Session-Id", id); r.status != 204 {
		t.Error(r)
	}
	third.ended()
}

// What a call asks of the user comes through, and the answer finds its way back.
func TestServerAsksClient(t *testing.T) {
	upstreams(t, func(t *testing.T, up gateway.Upstream, _ *server) {
		t.Helper()
		s := newSite(t)
		s.boot(up)
		var asked []string
		cs := s.client(func(o *mcp.ClientOptions) {
			o.ElicitationHandler = func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				asked = append(asked, r.Params.Message)
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"a": "b"}}, nil
			}
		})
		// JSON servers ask on the GET stream, and give up where there is none yet.
		for call(t, cs, "ask", "there?") != "accept" {
			pause()
		}
		asked = nil
		for _, q := range []string{"one?", "two?"} {
			if got := call(t, cs, "ask", q); got != "accept" {
				t.Errorf("%q", got)
			}
		}
		if strings.Join(asked, "") != "one?two?" {
			t.Errorf("%q", asked)
		}
	})
}

// scripted is an upstream whose answers to tools/call are written by the test.
type scripted struct {
	*stubborn

	mu   sync.Mutex
	play func(w http.ResponseWriter, r *http.Request, m msg)
	got  []string // bodies of what was posted to sessions
}

func newScripted(t *testing.T, play func(w http.ResponseWriter, r *http.Request, m msg)) *scripted {
	t.Helper()
	s := &scripted{stubborn: newStubborn(t), play: play}
	s.version = "2025-11-25"
	s.door.open(s)
	return s
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "GET" {
		s.play(w, r, msg{})
		return
	}
	body := new(strings.Builder)
	_, _ = fmt.Fprint(body, readAll(r))
	var m msg
	_ = json.Unmarshal([]byte(body.String()), &m)
	if m.Method == "tools/call" {
		s.play(w, r, m)
		return
	}
	if m.Method == "" {
		s.mu.Lock()
		s.got = append(s.got, body.String())
		s.mu.Unlock()
	}
	r.Body = nopBody(body.String())
	s.stubborn.ServeHTTP(w, r)
}

func sse(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		fmt.Fprint(w, e+"\n\n")
		_ = http.NewResponseController(w).Flush()
	}
}

func cut() { panic(http.ErrAbortHandler) }

const (
	progress = `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	response = `data: {"jsonrpc":"2.0","id":"c1","result":{"content":[]}}`
)

// events posts a call and returns the lines of its answer, event IDs cut out and collected.
func (s *site) events(body string, header ...string) (lines, ids []string, r reply) {
	s.tb.Helper()
	r = s.raw("POST", body, post(header...)...)
	lines, ids = split(r.body)
	return lines, ids, r
}

func split(body string) (lines, ids []string) {
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\r\n")
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			ids = append(ids, id)
			line = "id"
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines, ids
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const unknownOutcome = `data: {"jsonrpc":"2.0","id":"c1","error":{"code":-32051,"message":"The connection to the MCP server broke while it worked on this request: it may or may not have been executed"}}`

func TestAnswersThatBreakOff(t *testing.T) {
	for name, c := range map[string]struct {
		play   func(w http.ResponseWriter, r *http.Request, m msg)
		want   []string
		status int
	}{
		"whole": {func(w http.ResponseWriter, _ *http.Request, _ msg) { sse(w, response) }, []string{response}, 200},
		"whole, with progress": {
			func(w http.ResponseWriter, _ *http.Request, _ msg) { sse(w, progress, response) },
			[]string{"id", "data: ", progress, response},
			200,
		},
		"primed": {
			func(w http.ResponseWriter, _ *http.Request, _ msg) {
				sse(w, "event: message\nid: s_0\ndata: ", "id: s_1\n"+progress, "id: s_2\n"+response)
			},
			[]string{"event: message", "id", "data: ", "id", progress, "id", response},
			200,
		},
		"broken in the middle": {
			func(w http.ResponseWriter, _ *http.Request, _ msg) { sse(w, progress); cut() },
			[]string{"id", "data: ", progress, "event: message", unknownOutcome},
			200,
		},
		"ended in the middle": {
			func(w http.ResponseWriter, _ *http.Request, _ msg) { sse(w, progress) },
			[]string{"id", "data: ", progress, "event: message", unknownOutcome},
			200,
		},
		"broken, and resumed by the gateway": {
			func(w http.ResponseWriter, r *http.Request, _ msg) {
				if r.Method == "GET" && r.Header.Get("Last-Event-Id") == "s_1" {
					sse(w, "id: s_2\n"+response)
					return
				}
				sse(w, "id: s_1\n"+progress)
				cut()
			},
			[]string{"id", "data: ", "id", progress, "id", response},
			200,
		},
		"broken, and not to be resumed": {
			func(w http.ResponseWriter, r *http.Request, _ msg) {
				if r.Method == "GET" {
					w.WriteHeader(400)
					return
				}
				sse(w, "id: s_1\n"+progress)
				cut()
			},
			[]string{"id", "data: ", "id", progress, "event: message", unknownOutcome},
			200,
		},
		"broken before the first byte": {
			func(http.ResponseWriter, *http.Request, msg) { cut() },
			[]string{strings.TrimPrefix(unknownOutcome, "data: ")},
			200,
		},
		"JSON cut short": {
			func(w http.ResponseWriter, _ *http.Request, _ msg) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Length", "1000")
				fmt.Fprint(w, `{"jsonrpc":"2.0","id":"c1",`)
				cut()
			},
			[]string{strings.TrimPrefix(unknownOutcome, "data: ")},
			200,
		},
		"redirect": {func(w http.ResponseWriter, r *http.Request, _ msg) {
			http.Redirect(w, r, "http://evil.example/", http.StatusTemporaryRedirect)
		}, nil, 502},
		"503": {func(w http.ResponseWriter, _ *http.Request, _ msg) { rpcFault(w, 503, -1, "busy") }, nil, 503},
	} {
		t.Run(name, func(t *testing.T) {
			up := newScripted(t, c.play)
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()))
			id := s.session()
			lines, _, r := s.events(callTool, "Mcp-Session-Id", id)
			if r.status != c.status {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if c.want != nil {
				want(t, lines, c.want...)
			}
		})
	}
}

// A client whose call was cut off by a crash of the gateway comes back to the stream, and is told at once.
func TestCallsInFlightAreSettled(t *testing.T) {
	held := make(chan struct{})
	up := newScripted(t, func(w http.ResponseWriter, r *http.Request, _ msg) {
		if r.Method == "GET" {
			w.WriteHeader(405)
			return
		}
		sse(w, progress)
		select {
		case <-held:
		case <-r.Context().Done():
		}
	})
	defer close(held)
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	primed := make(chan string)
	broke := make(chan struct{})
	go func() {
		defer close(broke)
		s.stream(callTool, id, func(line string) {
			if v, ok := strings.CutPrefix(line, "id: "); ok {
				primed <- v
			}
		})
	}()
	at := <-primed
	r.kill()
	<-broke
	s.boot(httpUpstream(t, up.door.url()))
	for range 2 { // whoever asks again is told again
		l := s.listen(id, "Last-Event-Id", at)
		if got := l.wait("data: "); got != unknownOutcome {
			t.Errorf("%s", got)
		}
		l.ended()
	}
	other := s.session()
	for _, foreign := range []string{at, "AQEB", "1", "%", strings.Repeat("A", 50_000)} { // another session's, forged, an upstream's
		l := s.listen(other, "Last-Event-Id", foreign)
		if got := l.wait(":"); got != ": ok" || l.resp.StatusCode != 200 {
			t.Errorf("%.20s: %d %q; want a stream that begins anew", foreign, l.resp.StatusCode, got)
		}
	}
}

// A stream that the upstream can resume is resumed over a crash of the gateway, while the upstream's session lives.
func TestStreamIsResumedAcrossCrash(t *testing.T) {
	up := newScripted(t, func(w http.ResponseWriter, r *http.Request, _ msg) {
		if r.Method == "GET" {
			sse(w, "id: "+r.Header.Get("Last-Event-Id")+"9\n"+response)
			return
		}
		sse(w, "id: s_1\n"+progress)
		<-r.Context().Done()
	})
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	var ids []string
	seen := make(chan struct{})
	broke := make(chan struct{})
	go func() {
		defer close(broke)
		s.stream(callTool, id, func(line string) {
			if v, ok := strings.CutPrefix(line, "id: "); ok {
				ids = append(ids, v)
			}
			if strings.HasPrefix(line, "data: {") {
				close(seen)
			}
		})
	}()
	<-seen
	r.kill()
	<-broke
	s.boot(httpUpstream(t, up.door.url()))
	l := s.listen(id, "Last-Event-Id", ids[len(ids)-1])
	l.wait("id: ")
	if got := l.wait("data: "); got != response {
		t.Errorf("%s", got)
	}
	l.ended()
}

// A question of the server carries the epoch; its late answer completes nothing in a later one.
func TestLateAnswersAreDropped(t *testing.T) {
	asks := 0
	up := newScripted(t, nil)
	up.play = func(w http.ResponseWriter, r *http.Request, m msg) {
		up.stubborn.mu.Lock()
		_, known := up.sessions[r.Header.Get("Mcp-Session-Id")]
		up.stubborn.mu.Unlock()
		if !known {
			w.WriteHeader(404)
			return
		}
		asks++
		sse(w, `data: {"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{}}`,
			`data: {"jsonrpc":"2.0","id":"q","method":"roots/list"}`,
			`data: {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, //nolint:misspell // the protocol's spelling
			`data: {"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":{}}`)
	}
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	lines, _, _ := s.events(callTool, "Mcp-Session-Id", id)
	want(t, lines, "id", "data: ", `data: {"jsonrpc":"2.0","id":4294967297,"method":"elicitation/create","params":{}}`,
		`data: {"jsonrpc":"2.0","id":"e1.q","method":"roots/list"}`,
		`data: {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4294967297}}`, //nolint:misspell // the protocol's spelling
		`data: {"jsonrpc":"2.0","id":"c1","result":{}}`)
	answer := func(rpcID string) {
		t.Helper()
		if r := s.raw("POST", `{"jsonrpc":"2.0","id":`+rpcID+`,"result":{"a":1}}`, post("Mcp-Session-Id", id)...); r.status != 202 {
			t.Errorf("%+v", r)
		}
	}
	answer("4294967297")
	answer(`"e1.q"`)
	up.forget()
	lines, _, _ = s.events(callTool, "Mcp-Session-Id", id)
	if len(lines) < 3 || !strings.Contains(lines[2], `"id":8589934593`) {
		t.Errorf("%q", lines)
	}
	answer("4294967297") // late
	answer(`"e1.q"`)     // late
	answer("1")          // forged
	answer("8589934593")
	up.mu.Lock()
	defer up.mu.Unlock()
	want(t, up.got, `{"jsonrpc":"2.0","id":1,"result":{"a":1}}`, `{"jsonrpc":"2.0","id":"q","result":{"a":1}}`, `{"jsonrpc":"2.0","id":1,"result":{"a":1}}`)
}

// Events are passed on one by one, as they come.
func TestEventsAreNotBuffered(t *testing.T) {
	next := make(chan string)
	up := newScripted(t, func(w http.ResponseWriter, _ *http.Request, _ msg) {
		for e := range next {
			sse(w, e)
		}
	})
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	lines := make(chan string, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.stream(callTool, id, func(line string) {
			if strings.HasPrefix(line, "data: {") {
				lines <- line
			}
		})
	}()
	for range 3 {
		next <- progress
		if got := <-lines; got != progress {
			t.Errorf("%s", got)
		}
	}
	next <- response
	if got := <-lines; got != response {
		t.Errorf("%s", got)
	}
	close(next)
	<-done
}
