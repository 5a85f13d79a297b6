package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// annotated is an upstream that lists its tools on two pages, and does once to a call what the test wants.
type annotated struct {
	*stubborn

	mu    sync.Mutex
	upset func(w http.ResponseWriter) // what happens to calls; nil = they are answered
	times int                         // how often
	lists int
	seen  int // calls
}

func newAnnotated(t *testing.T, times int, upset func(w http.ResponseWriter)) *annotated {
	t.Helper()
	a := &annotated{stubborn: newStubborn(t), upset: upset, times: times}
	a.door.open(a)
	return a
}

func (a *annotated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := readAll(r)
	r.Body = nopBody(body)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case strings.Contains(body, `"tools/list"`):
		a.lists++
		id, page := `"dormouse-tools-0"`, `{"tools":[{"name":"echo"}],"nextCursor":"p\"2"}`
		if strings.Contains(body, `"cursor":"p\"2"`) {
			id, page = `"dormouse-tools-1"`, `{"tools":[{"name":"look","annotations":{"readOnlyHint":true}}]}`
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n\n", id, page)
		return
	case strings.Contains(body, `"tools/call"`), strings.Contains(body, `"resources/read"`):
		a.seen++
		if a.times--; a.times >= 0 {
			a.upset(w)
			return
		}
	}
	a.stubborn.ServeHTTP(w, r)
}

func toolCall(name string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + name + `"}}`
}

// A gateway that was just started knows nothing of tools. It asks when it must know.
func TestToolsAreAskedForAfterARestart(t *testing.T) {
	for tool, c := range map[string]struct{ seen, lists int }{"look": {2, 2}, "echo": {1, 2}, "none": {1, 2}} {
		t.Run(tool, func(t *testing.T) {
			up := newAnnotated(t, 1, func(http.ResponseWriter) { cut() })
			s := newSite(t)
			r := s.boot(httpUpstream(t, up.door.url()))
			id := s.session()
			r.kill()
			s.boot(httpUpstream(t, up.door.url()))
			got := s.raw("POST", toolCall(tool), post("Mcp-Session-Id", id)...)
			if told := strings.Contains(got.body, "may or may not have been executed"); got.status != 200 || told != (c.seen == 1) {
				t.Errorf("%+v", got)
			}
			if up.seen != c.seen || up.lists != c.lists {
				t.Errorf("called %d times, listed %d times", up.seen, up.lists)
			}
		})
	}
}

// What a load balancer says in place of the upstream is an outage: reads are repeated, calls that may have been executed are not.
func TestProxyInFrontOfTheUpstream(t *testing.T) {
	const read = `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"test://a"}}`
	html := func(status int) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			http.Error(w, "<html>nginx</html>", status)
		}
	}
	rpc := func(w http.ResponseWriter) { rpcFault(w, 503, -32000, "busy") }
	for name, c := range map[string]struct {
		body   string
		upset  func(w http.ResponseWriter)
		times  int
		status int
		says   string
		seen   int
	}{
		"read, 502":                        {read, html(502), 2, 200, `"result"`, 3},
		"read, 503":                        {read, html(503), 2, 200, `"result"`, 3},
		"read, 504":                        {read, html(504), 1, 200, `"result"`, 2},
		"read-only tool, 502":              {toolCall("look"), html(502), 1, 200, `"result"`, 2},
		"tool, 502":                        {toolCall("echo"), html(502), 1, 200, "may or may not have been executed", 1},
		"tool, 504":                        {toolCall("echo"), html(504), 1, 200, "may or may not have been executed", 1},
		"tool, 503":                        {toolCall("echo"), html(503), 1, 503, "nginx", 1},
		"read, the upstream's own 503":     {read, rpc, 1, 503, "busy", 1},
		"read, 503 for longer than we try": {read, html(503), 1000, 503, "nginx", -1},
	} {
		t.Run(name, func(t *testing.T) {
			up := newAnnotated(t, c.times, c.upset)
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()), setup{waker: func(o *gateway.WakerOptions) {
				if c.seen < 0 {
					o.UpstreamWait = 200 * time.Millisecond
				}
			}})
			id := s.session()
			got := s.raw("POST", c.body, post("Mcp-Session-Id", id)...)
			if got.status != c.status || !strings.Contains(got.body, c.says) || got.status == 503 && c.says == "nginx" && got.header.Get("Retry-After") != "7" {
				t.Errorf("%+v", got)
			}
			if up.seen != c.seen && c.seen >= 0 || up.count("initialize") != 1 {
				t.Errorf("sent %d times, initialized %d times", up.seen, up.count("initialize"))
			}
		})
	}
}

// An initialize that a load balancer answers is tried again: nothing hangs on a session that nobody holds.
func TestInitializeBehindAProxy(t *testing.T) {
	up := newStubborn(t)
	refused := 0
	up.door.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused++; refused <= 2 {
			http.Error(w, "bad gateway", http.StatusBadGateway)
			return
		}
		up.ServeHTTP(w, r)
	}))
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	s.session()
	if up.count("initialize") != 1 {
		t.Errorf("initialized %d times", up.count("initialize"))
	}
}

// A client cannot let its session's state grow without bounds.
func TestSubscriptionsAreBounded(t *testing.T) {
	up := newStubborn(t)
	up.version = "2025-03-26"
	up.door.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := readAll(r)
		r.Body = nopBody(body)
		if !strings.HasPrefix(body, "[") {
			up.ServeHTTP(w, r)
			return
		}
		var results []string
		for i := range strings.Count(body, "resources/subscribe") {
			results = append(results, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{}}`, i))
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "["+strings.Join(results, ",")+"]")
	}))
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	subscribe := func(id, uri string) reply {
		t.Helper()
		return s.raw("POST", `{"jsonrpc":"2.0","id":5,"method":"resources/subscribe","params":{"uri":"`+uri+`"}}`,
			post("Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-03-26")...)
	}
	refused := func(what string, r reply) {
		t.Helper()
		if r.status != 200 || rpcCode(t, r.body) != -32054 || !strings.Contains(r.body, `"id":5`) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	id := s.sessionOf("2025-03-26")
	refused("a huge one", subscribe(id, strings.Repeat("a", 200<<10)))
	for i := range 10 {
		var batch []string
		for j := range 100 {
			batch = append(batch, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"resources/subscribe","params":{"uri":"test://%d/%d"}}`, j, i, j))
		}
		if r := s.raw("POST", "["+strings.Join(batch, ",")+"]", post("Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-03-26")...); r.status != 200 {
			t.Fatalf("%.300s", r.body)
		}
	}
	for range 2 {
		before := up.count("resources/subscribe")
		refused("one more than a thousand", subscribe(id, "test://more"))
		if up.count("resources/subscribe") != before {
			t.Error("the upstream was told")
		}
	}
	big := strings.Replace(initialize, `"capabilities":{}`, `"capabilities":{"experimental":{"x":{"y":"`+strings.Repeat("a", 65<<10)+`"}}}`, 1)
	if r := s.raw("POST", big, post()...); r.status != 400 || rpcCode(t, r.body) != -32602 {
		t.Errorf("huge parameters of initialize: %d %.200s", r.status, r.body)
	}
}

// Nobody waits for an upstream on behalf of a client that is gone.
func TestWaitingEndsWithTheClient(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()), setup{waker: func(o *gateway.WakerOptions) { o.UpstreamWait = time.Hour }})
	id := s.session()
	up.crash()
	for _, body := range []string{toolCall("echo"), initialize} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.door.url(), strings.NewReader(body))
		must(t, err)
		header := post()
		if body != initialize {
			header = post("Mcp-Session-Id", id)
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("answered: %d", resp.StatusCode)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Errorf("somebody still waits: %v", err)
	}
}
