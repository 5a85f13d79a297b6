package gateway_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
)

// What may have been executed is repeated only where that does no harm.
func TestRepeatOrNot(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	tool := func(name string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"name":"look"},"name":"` + name + `"}}`
	}
	for name, c := range map[string]struct {
		body    string
		repeats bool
	}{
		"list":                       {list, true},
		"read":                       {`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a"}}`, true},
		"prompt":                     {`{"jsonrpc":"2.0","id":1,"method":"prompts/get"}`, true},
		"notification":               {`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, true},
		"read-only tool":             {tool("look"), true},
		"idempotent tool":            {tool("put"), true},
		"tool":                       {tool("echo"), false},
		"tool annotated both ways":   {tool("both"), false},
		"unknown tool":               {tool("what"), false},
		"batch of reads":             {`[` + list + `]`, true},
		"batch with a tool":          {`[` + list + `,` + strings.Replace(tool("echo"), `"id":1`, `"id":2`, 1) + `]`, false},
		"some method of another age": {`{"jsonrpc":"2.0","id":1,"method":"x/y"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			breaking, seen := 0, 0
			up := newStubborn(t)
			up.version = "2025-03-26"
			up.door.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if breaking > 0 {
					body := readAll(r)
					if !strings.Contains(body, "dormouse-ping") {
						seen++
						breaking--
						cut()
					}
					r.Body = nopBody(body)
				}
				if body := readAll(r); strings.Contains(body, "tools/list") || strings.HasPrefix(body, "[") {
					if !strings.Contains(body, "dormouse-tools") {
						seen++
					}
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"look","annotations":{"readOnlyHint":true}},{"name":"put","annotations":{"idempotentHint":true}},{"name":"echo","annotations":{"readOnlyHint":false}},{"name":"both","annotations":{"readOnlyHint":true}},{"name":"both"}]}}`)
				} else {
					r.Body = nopBody(body)
					if !strings.Contains(body, "dormouse-ping") {
						seen++
					}
					up.ServeHTTP(w, r)
				}
			}))
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()))
			id := s.session()
			_ = s.raw("POST", list, post("Mcp-Session-Id", id)...)
			mu.Lock()
			breaking, seen = 1, 0
			mu.Unlock()
			r := s.raw("POST", c.body, post("Mcp-Session-Id", id)...)
			told := strings.Contains(r.body, "may or may not have been executed")
			if r.status >= 300 || told == c.repeats {
				t.Errorf("%d %s", r.status, r.body)
			}
			mu.Lock()
			defer mu.Unlock()
			if c.repeats != (seen > 1) {
				t.Errorf("sent %d times", seen)
			}
		})
	}
}

// An upstream that is down is waited for, in vain.
func TestUpstreamIsWaitedFor(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()), setup{waker: func(o *gateway.WakerOptions) { o.UpstreamWait = 400 * time.Millisecond }})
	id := s.session()
	up.crash()
	for _, body := range []string{callTool, initialize} {
		header := post()
		if body == callTool {
			header = post("Mcp-Session-Id", id)
		}
		r := s.raw("POST", body, header...)
		if r.status != 503 || r.header.Get("Retry-After") == "" || rpcCode(t, r.body) != -32050 {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
}

// One that comes back in time answers.
func TestUpstreamComesBack(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()), setup{waker: func(o *gateway.WakerOptions) { o.UpstreamWait = time.Minute }})
	id := s.session()
	up.crash()
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(200 * time.Millisecond)
		up.start()
	}()
	if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 || !strings.Contains(r.body, "upstream-2") {
		t.Errorf("%d %s", r.status, r.body)
	}
	<-done
}

// Every message is journaled with its method, its tool and how it ended.
func TestOutcomesAreJournaled(t *testing.T) {
	for name, o := range map[string]mcp.StreamableHTTPOptions{"sse": {}, "json": {JSONResponse: true}} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, o)
			s := newSite(t)
			r := s.boot(httpUpstream(t, srv.url()))
			var got []string
			id := s.sessionOf("2025-03-26")
			s.journal.Inject(nil)
			send := func(body string) {
				t.Helper()
				if r := s.raw("POST", body, post("Mcp-Session-Id", id, "Mcp-Protocol-Version", "2025-03-26")...); r.status >= 300 {
					t.Errorf("%d %s", r.status, r.body)
				}
			}
			send(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"\"isError\":true"}}}`)
			send(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"fail","arguments":{"text":""}}}`)
			send(`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"none"}}`)
			send(`[{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"fail","arguments":{"text":""}}},{"jsonrpc":"2.0","id":5,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}]`)
			srv.crash()
			r.flush()
			for _, c := range s.calls() {
				got = append(got, fmt.Sprintf("%s %s %s", c.Method, c.Tool, c.Outcome))
			}
			slices.Sort(got[len(got)-3:])
			wanted := []string{
				"notifications/initialized  ok", "tools/call echo ok", "tools/call fail tool-error", "tools/call none rpc-error",
				"notifications/roots/list_changed  ok", "ping  ok", "tools/call fail tool-error",
			}
			if strings.Join(got, "\n") != strings.Join(wanted, "\n") {
				t.Errorf("got\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

func TestLimits(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()), setup{engine: func(o *engine.Options) { o.MaxSessions = 2 }})
	s.session()
	s.session()
	r := s.raw("POST", initialize, post()...)
	if r.status != 429 || rpcCode(t, r.body) != -32052 || r.header.Get("Retry-After") == "" || up.count("initialize") != 2 {
		t.Errorf("%+v", r)
	}
}

func TestJournalOutOfReach(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	s.journal.SetDown(true)
	if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 {
		t.Errorf("a call of a live session: %+v", r)
	}
	if r := s.raw("POST", callTool, post("Mcp-Session-Id", "unknown")...); r.status != 503 || r.header.Get("Retry-After") == "" {
		t.Errorf("an unknown session must not be called unknown now: %+v", r)
	}
	s.journal.SetDown(false)
	if r := s.raw("POST", callTool, post("Mcp-Session-Id", "unknown")...); r.status != 404 {
		t.Errorf("%+v", r)
	}
}

// Log level and subscriptions are told to an upstream session that takes another's place.
func TestRestoredAtUpstream(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()))
	id := s.session()
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"warning"}}`,
		`{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"test://\"a\""}}`,
		`{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"test://b"}}`,
		`{"jsonrpc":"2.0","id":4,"method":"resources/unsubscribe","params":{"uri":"test://b"}}`,
	} {
		if r := s.raw("POST", body, post("Mcp-Session-Id", id)...); r.status != 200 {
			t.Fatal(r)
		}
	}
	r.kill()
	up.forget()
	up.mu.Lock()
	up.calls = nil
	up.mu.Unlock()
	s.boot(httpUpstream(t, up.door.url()))
	if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 200 {
		t.Fatal(r)
	}
	got := strings.Join(up.calls, " ")
	if want := "initialize notifications/initialized logging/setLevel resources/subscribe tools/call"; !strings.HasSuffix(got, want) ||
		strings.Count(got, "subscribe") != 1 {
		t.Errorf("%s", got)
	}
}

// What passes to the upstream, and what does not.
func TestHeaders(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(token, []byte("upstream-secret\n"), 0o600))
	secret, err := gateway.ReadToken(token)
	must(t, err)
	for name, c := range map[string]struct {
		o    gateway.HTTPUpstreamOptions
		auth string
	}{
		"as it is": {gateway.HTTPUpstreamOptions{}, "Bearer mine"},
		"stripped": {gateway.HTTPUpstreamOptions{StripAuthorization: true}, ""},
		"replaced": {gateway.HTTPUpstreamOptions{Token: secret}, "Bearer upstream-secret"},
	} {
		t.Run(name, func(t *testing.T) {
			up := newStubborn(t)
			var got http.Header
			up.door.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "POST" {
					got = r.Header.Clone()
				}
				w.Header().Set("X-Answer", "yes")
				w.Header().Set("Access-Control-Allow-Origin", "*")
				w.Header().Set("Mcp-Session-Id", "upstream-secret-id")
				up.ServeHTTP(w, r)
			}))
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url(), c.o))
			r := s.raw("POST", initialize, post("Authorization", "Bearer mine", "X-N8n-Key", "k", "Connection", "X-Hop", "X-Hop", "1",
				"Te", "trailers", "Accept-Encoding", "gzip", "Origin", "http://localhost", "X-Forwarded-For", "10.1.1.1", "Mcp-Method", "initialize")...)
			if r.status != 200 {
				t.Fatal(r)
			}
			for k, want := range map[string]string{
				"Authorization": c.auth, "X-N8n-Key": "k", "X-Hop": "", "Te": "", "Accept-Encoding": "", "Origin": "",
				"X-Forwarded-For": "", "Mcp-Session-Id": "", "Content-Type": "application/json",
				"Accept": "application/json, text/event-stream", "Mcp-Method": "initialize",
			} {
				if got.Get(k) != want {
					t.Errorf("%s: %q, want %q", k, got.Get(k), want)
				}
			}
			if id := r.header.Get("Mcp-Session-Id"); strings.HasPrefix(id, "upstream") || r.header.Get("X-Answer") != "yes" {
				t.Errorf("%v", r.header)
			}
			if o := r.header.Get("Access-Control-Allow-Origin"); o != "http://localhost" {
				t.Errorf("%q", o)
			}
		})
	}
}

// Who may use a session: whoever made it.
func TestWhoMayUseASession(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	must(t, os.WriteFile(path, []byte("# people\nalice:alices-long-token-1\n\nbob acme bobs-very-long-token\ncarol acme carols-very-long-tok\n"), 0o600))
	tokens, err := gateway.OpenTokenFile(path)
	must(t, err)
	srv := newServer(t, mcp.StreamableHTTPOptions{JSONResponse: true})
	s := newSite(t)
	boot := func(auth gateway.Authenticator) {
		id := gateway.Identifier{Auth: auth, Name: s.ring.Name, Context: readContext}
		s.boot(httpUpstream(t, srv.url()), setup{gateway: func(o *gateway.Options) { o.Identify = id.Identify }})
	}
	try := func(what string, status int, id string, header ...string) {
		t.Helper()
		if r := s.raw("POST", ping, post(append(header, "Mcp-Session-Id", id)...)...); r.status != status {
			t.Errorf("%s: %d %s", what, r.status, r.body)
		}
	}
	boot(tokens)
	alice := []string{"Authorization", "Bearer alices-long-token-1"}
	bob := []string{"Authorization", "bearer bobs-very-long-token"}
	id := s.session(alice...)
	try("alice", 200, id, alice...)
	try("bob", 404, id, bob...)
	try("nobody", 401, id)
	try("junk", 401, id, "Authorization", "Basic x")
	if r := s.raw("POST", ping, post("Mcp-Session-Id", id)...); r.header.Get("Www-Authenticate") != "Bearer" {
		t.Error(r.header)
	}
	id = s.session(bob...)
	try("carol, of the same tenant", 404, id, "Authorization", "Bearer carols-very-long-tok")
	must(t, os.WriteFile(path, []byte("bob acme bobs-second-very-long-token\n"), 0o600))
	must(t, tokens.Reload())
	try("bob's old token", 401, id, bob...)
	try("bob's new token", 200, id, "Authorization", "Bearer bobs-second-very-long-token")
	must(t, os.WriteFile(path, []byte("bob:short\n"), 0o600))
	if err := tokens.Reload(); err == nil || strings.Contains(err.Error(), "short\"") {
		t.Errorf("%v", err)
	}
	try("after a bad reload", 200, id, "Authorization", "Bearer bobs-second-very-long-token")

	boot(nil)
	one := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	id = s.session(one...)
	try("one", 200, id, one...)
	for what, h := range map[string][]string{
		"no context":       nil,
		"another key":      {"X-N8n-Url", "https://one.example", "X-N8n-Key", "k2", "X-Instance-Id", "i1"},
		"another instance": {"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i2"},
		"another url":      {"X-N8n-Url", "https://two.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"},
	} {
		try(what, 404, id, h...)
	}
	try("half a context", 400, id, "X-N8n-Url", "https://one.example")

	boot(gateway.Passthrough{Name: s.ring.Name})
	id = s.session("Authorization", "Bearer a")
	try("same credential", 200, id, "Authorization", "Bearer a")
	try("another credential, which this upstream takes", 200, id, "Authorization", "Bearer b")
	try("no credential", 404, id)
}

// sessionOf opens a session of that protocol version.
func (s *site) sessionOf(version string) string {
	s.tb.Helper()
	r := s.raw("POST", strings.Replace(initialize, "2025-06-18", version, 1), post()...)
	if r.status != 200 {
		s.tb.Fatal(r)
	}
	id := r.header.Get("Mcp-Session-Id")
	s.raw("POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, post("Mcp-Session-Id", id)...)
	return id
}

// calls returns the completed calls in the journal, in order.
func (s *site) calls() (calls []journal.Call) {
	s.tb.Helper()
	for _, e := range s.history() {
		if e.Kind == journal.KindAccessed {
			calls = append(calls, e.Call)
		}
	}
	return calls
}

// readContext reads an instance context as package n8n does.
func readContext(h http.Header) (*engine.InstanceContext, error) {
	if h.Get("X-N8n-Url") == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	if h.Get("X-N8n-Key") == "" {
		return nil, errors.New("x-n8n-key is missing")
	}
	return &engine.InstanceContext{N8nAPIURL: h.Get("X-N8n-Url"), N8nAPIKey: h.Get("X-N8n-Key"), InstanceID: h.Get("X-Instance-Id")}, nil
}
