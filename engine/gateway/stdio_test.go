package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
	"github.com/dormouse-mcp/dormouse/journal"
)

// stdioUpstream returns the upstream of this test binary's children, closed with the test.
func stdioUpstream(tb testing.TB, o stdio.Options, kind ...string) *stdio.Upstream {
	tb.Helper()
	self, err := os.Executable()
	must(tb, err)
	o.Command = []string{self}
	o.Env = append(o.Env, childMark+"="+append(kind, "plain")[0], "GOCOVERDIR="+tb.TempDir(), "GORACE=atexit_sleep_ms=0")
	up, err := stdio.New(o)
	must(tb, err)
	tb.Cleanup(func() {
		must(tb, up.Close())
		if n := up.Children(); n != 0 {
			tb.Errorf("%d children are left", n)
		}
	})
	return up
}

// running reports whether there is a process of that ID that is not a zombie.
func running(tb testing.TB, pid string) bool {
	tb.Helper()
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		n, err := strconv.Atoi(pid)
		must(tb, err)
		return syscall.Kill(n, 0) == nil && !errors.Is(err, os.ErrNotExist)
	}
	return !bytes.Contains(data, []byte(") Z "))
}

func gone(tb testing.TB, pids ...string) {
	tb.Helper()
	for _, pid := range pids {
		eventually(tb, func() bool { return !running(tb, pid) })
	}
}

func fell(tb testing.TB, cs *mcp.ClientSession, tool, text string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), testPatience)
	defer cancel()
	res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: say{text}})
	if err == nil {
		tb.Fatalf("%s: %v", tool, res.Content[0])
	}
	return err.Error()
}

// A child that dies takes its memory along; the session goes on with the next one, which has been told what the first
// one was. What it was working on fails, and only that.
func TestStdioChildDies(t *testing.T) {
	s := newSite(t)
	up := stdioUpstream(t, stdio.Options{}, "more")
	r := s.boot(up)
	cs := s.client(func(o *mcp.ClientOptions) { o.ElicitationHandler = accept })
	id := cs.ID()
	must(t, cs.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "debug"})) //nolint:staticcheck // clients of older versions use it
	must(t, cs.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "test://a"}))
	for _, want := range []string{"1", "2"} {
		if got := call(t, cs, "count", ""); got != want {
			t.Fatalf("count: %s", got)
		}
	}
	pid := call(t, cs, "pid", "")
	if err := fell(t, cs, "die", "goodbye"); !strings.Contains(err, "may or may not have been executed") {
		t.Error(err)
	}
	gone(t, pid)
	if got := call(t, cs, "count", ""); got != "1" || cs.ID() != id {
		t.Errorf("count after a crash: %s", got)
	}
	if got := call(t, cs, "ask", "now?"); got != "accept" {
		t.Errorf("a question after a crash: %s", got)
	}
	// The log level and the subscription came along: else nothing would be sent.
	got := s.raw("POST", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"log","arguments":{"text":"psst"}}}`, post("Mcp-Session-Id", id)...)
	if !strings.Contains(got.body, "psst") || !strings.Contains(got.body, "logged") {
		t.Errorf("log: %s", got.body)
	}
	got = s.raw("POST", `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"update","arguments":{"text":"test://a"}}}`, post("Mcp-Session-Id", id)...)
	if !strings.Contains(got.body, "notifications/resources/updated") || !strings.Contains(got.body, `"updated"`) {
		t.Errorf("update: %s", got.body)
	}
	pid = call(t, cs, "pid", "")
	if got, want := up.Stats(), (stdio.Stats{Alive: 1, Started: 2, Died: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	r.kill()
	gone(t, pid)
	s.boot(stdioUpstream(t, stdio.Options{}, "more"))
	if got := call(t, cs, "count", ""); got != "1" || cs.ID() != id {
		t.Errorf("count after the gateway's restart: %s", got)
	}
}

func accept(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
	return &mcp.ElicitResult{Action: "accept"}, nil
}

// A read is repeated on the next child; the client notices nothing.
func TestStdioRepeatsReads(t *testing.T) {
	s := newSite(t)
	s.boot(stdioUpstream(t, stdio.Options{}, "more"))
	cs := s.client()
	pid, err := strconv.Atoi(call(t, cs, "pid", ""))
	must(t, err)
	for range 3 {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		if _, err := cs.ListTools(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if pid, err = strconv.Atoi(call(t, cs, "pid", "")); err != nil {
			t.Fatal(err)
		}
	}
}

// A child ends with all that it has started, when its session does and when its gateway hibernates it.
func TestStdioNoOrphans(t *testing.T) {
	s := newSite(t)
	up := stdioUpstream(t, stdio.Options{IdleAfter: 2 * time.Second}, "more")
	s.boot(up)
	cs := s.client()
	child, grandchild := call(t, cs, "pid", ""), call(t, cs, "fork", "")
	gone(t, child, grandchild) // for want of work, though the client's GET stream is open
	child = call(t, cs, "pid", "")
	grandchild = call(t, cs, "fork", "")
	must(t, cs.Close())
	gone(t, child, grandchild)
	eventually(t, func() bool { return up.Children() == 0 })
}

// What a child gets is the tenant's context and nothing of the gateway's.
func TestStdioEnvironment(t *testing.T) {
	t.Setenv("DORMOUSE_SECRET_OF_THE_GATEWAY", "hunter2")
	t.Setenv("N8N_API_KEY", "the operator's")
	t.Setenv("MAY_PASS", "hello")
	s := newSite(t)
	var log bytes.Buffer
	s.log = zerolog.New(zerolog.SyncWriter(&log))
	who := func(h http.Header) (*engine.InstanceContext, error) {
		if h.Get("X-N8n-Url") == "" {
			return nil, nil //nolint:nilnil // as n8n.ParseContext
		}
		return &engine.InstanceContext{
			N8nAPIURL: h.Get("X-N8n-Url"), N8nAPIKey: h.Get("X-N8n-Key"), InstanceID: "acme", Metadata: json.RawMessage(`{"a":1}`),
		}, nil
	}
	ident := &gateway.Identifier{Name: s.ring.Name, Context: who}
	up := stdioUpstream(t, stdio.Options{Env: []string{"MAY_PASS", "NOT_THERE", "SET=here"}, Logger: s.log}, "more")
	r := s.boot(up, setup{gateway: func(o *gateway.Options) { o.Identify = ident.Identify }})
	tenant := http.Header{"X-N8n-Url": {"http://n8n.example"}, "X-N8n-Key": {"tenants-key"}}
	cs := connect(t, s.door.url(), tenant)
	env := call(t, cs, "env", "")
	for _, want := range []string{
		"N8N_API_URL=http://n8n.example\n", "N8N_API_KEY=tenants-key\n", "DORMOUSE_INSTANCE_ID=acme\n", "SET=here",
		"MAY_PASS=hello\n", "PATH=", "DORMOUSE_CONTEXT_METADATA={\"a\":1}\n", "DORMOUSE_SESSION=" + journal.SessionID(cs.ID()).Ref().String(),
	} {
		if !strings.Contains(env, want) {
			t.Errorf("%q is not there:\n%s", want, env)
		}
	}
	for _, bad := range []string{"hunter2", "operator", "NOT_THERE", "DORMOUSE_CONTEXT_SESSION_ID", cs.ID()} {
		if strings.Contains(env, bad) {
			t.Errorf("%q is there:\n%s", bad, env)
		}
	}
	none := connect(t, s.door.url(), nil)
	if env := call(t, none, "env", ""); strings.Contains(env, "N8N_API") {
		t.Errorf("a session without a context has one:\n%s", env)
	}
	_ = fell(t, cs, "die", "my key is tenants-key!")
	_ = call(t, cs, "pid", "")
	r.kill()
	must(t, up.Close())
	if got := log.String(); !strings.Contains(got, "my key is [hidden]!") || strings.Contains(got, "tenants-key") {
		t.Errorf("log: %s", got)
	}
}

// What a child says of its own accord reaches the newest POST, or the GET stream; without one it waits, and a question
// is answered from wherever it was heard.
func TestStdioUnasked(t *testing.T) {
	s := newSite(t)
	s.boot(stdioUpstream(t, stdio.Options{}, "more"))
	opened := s.raw("POST", strings.Replace(initialize, `"capabilities":{}`, `"capabilities":{"elicitation":{}}`, 1), post()...)
	id := opened.header.Get("Mcp-Session-Id")
	_ = s.raw("POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, post("Mcp-Session-Id", id)...)
	ask := func(n int, tool, text string) string {
		body := `{"jsonrpc":"2.0","id":` + strconv.Itoa(n) + `,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"text":"` + text + `"}}}`
		return s.raw("POST", body, post("Mcp-Session-Id", id)...).body
	}
	_ = s.raw("POST", `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`, post("Mcp-Session-Id", id)...)
	if got := ask(2, "log", "one"); !strings.Contains(got, "one") {
		t.Error(got)
	}
	before := ask(3, "later", "how late is it") // nobody listens
	l := s.listen(id)
	question := before
	if !strings.Contains(before, "how late is it") {
		question = l.wait("data: {")
	}
	var asked struct {
		ID     json.RawMessage
		Method string
	}
	for line := range strings.Lines(question) {
		if data, ok := strings.CutPrefix(line, "data: "); ok && strings.Contains(data, "how late is it") {
			must(t, json.Unmarshal([]byte(data), &asked))
		}
	}
	if asked.Method != "elicitation/create" {
		t.Fatalf("%q", question)
	}
	_ = s.raw("POST", `{"jsonrpc":"2.0","id":`+string(asked.ID)+`,"result":{"action":"decline"}}`, post("Mcp-Session-Id", id)...)
	if got := l.wait("data: {"); !strings.Contains(got, "heard decline") {
		t.Error(got)
	}
	_ = ask(4, "die", "") // the open stream alone starts the next one
	if got := ask(5, "count", ""); !strings.Contains(got, `"1"`) {
		t.Error(got)
	}
}

// A tenant whose key changes gets a child with the new one; the session stays.
func TestStdioKeyChanges(t *testing.T) {
	s := newSite(t)
	ident := gateway.Identifier{Auth: everybody{}, Name: s.ring.Name, Context: func(h http.Header) (*engine.InstanceContext, error) {
		return &engine.InstanceContext{N8nAPIURL: h.Get("X-N8n-Url"), N8nAPIKey: h.Get("X-N8n-Key")}, nil
	}}
	s.boot(stdioUpstream(t, stdio.Options{}, "more"), setup{gateway: func(o *gateway.Options) { o.Identify = ident.Identify }})
	header := func(key string, more ...string) []string {
		return post(append(more, "X-N8n-Url", "http://n8n.example", "X-N8n-Key", key)...)
	}
	id := s.session("X-N8n-Url", "http://n8n.example", "X-N8n-Key", "old-key")
	const env = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"env","arguments":{"text":""}}}`
	for _, key := range []string{"old-key", "new-key", "new-key"} {
		got := s.raw("POST", env, header(key, "Mcp-Session-Id", id)...)
		if !strings.Contains(got.body, "N8N_API_KEY="+key) {
			t.Errorf("%s: %d %s", key, got.status, got.body)
		}
	}
}

// everybody is let in under one name.
type everybody struct{}

func (everybody) Authenticate(*http.Request) (gateway.Identity, error) {
	return gateway.Identity{Principal: "somebody"}, nil
}
