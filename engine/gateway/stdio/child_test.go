//go:build unix

package stdio

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// shell returns a connection whose child is a shell script, and its upstream's log.
func shell(t *testing.T, script string, o Options) (gateway.Conn, *Upstream, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	o.Command, o.Logger = []string{"/bin/sh", "-c", script}, zerolog.New(zerolog.SyncWriter(&log)).Level(zerolog.DebugLevel)
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	c, err := u.Connect(t.Context(), nobody{})
	if err != nil {
		t.Fatal(err)
	}
	return c, u, &log
}

// initialized is a server that says yes to initialize, and then runs the rest.
func initialized(rest string) string {
	return `read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"sh","version":"1"}}}'; ` + rest
}

// ask sends a message and reads the answer.
func ask(t *testing.T, c gateway.Conn, session, body string) (int, string, http.Header) {
	t.Helper()
	r := request(t)
	if session != "" {
		r.Header.Set(headerSession, session)
	}
	r.Body = io.NopCloser(strings.NewReader(body))
	resp, err := c.RoundTrip(r)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), resp.Header
	}
	return resp.StatusCode, string(data), resp.Header
}

const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`

// A child that heeds neither the end of its stdin nor SIGTERM is killed.
func TestStubborn(t *testing.T) {
	c, u, log := shell(t, initialized(`trap '' TERM; while true; do sleep 3600; done`), Options{StopGrace: 20 * time.Millisecond})
	if status, body, _ := ask(t, c, "", hello); status != http.StatusOK {
		t.Fatal(status, body)
	}
	_ = c.Close()
	if u.Children() != 0 {
		t.Error("it lives")
	}
	_ = u.Close()
	if !strings.Contains(log.String(), "killed") {
		t.Error(log.String())
	}
}

// When the watcher is killed, which nobody should, its child ends too: there is never a child without one.
func TestWatcherKilled(t *testing.T) {
	c, _, _ := shell(t, initialized(`cat >/dev/null`), Options{})
	_, _, header := ask(t, c, "", hello)
	own := c.(*conn)
	own.mu.Lock()
	ch := own.child
	own.mu.Unlock()
	if err := syscall.Kill(ch.group.id(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-ch.gone
	status, body, _ := ask(t, c, header.Get(headerSession), `{"jsonrpc":"2.0","method":"a"}`)
	if status != http.StatusNotFound {
		t.Error(status, body)
	}
}

// What the transport is asked for by a caller who is not the gateway.
func TestOddRequests(t *testing.T) {
	c, _, _ := shell(t, initialized(`while read -r line; do case "$line" in *'"id":2'*) echo '[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":2,"result":{}}]';; *'"id":3'*) echo 'what?'; echo '{"jsonrpc":"2.0","id":99,"result":{}}'; echo '{"jsonrpc":"2.0","id":3.0,"result":3}';; esac; done`), Options{})
	_, _, header := ask(t, c, "", hello)
	id := header.Get(headerSession)
	for name, q := range map[string]struct {
		session, body string
		status        int
		want          string
	}{
		"no JSON":         {id, `what`, 400, "not a JSON-RPC message"},
		"empty batch":     {id, `[]`, 400, "not a JSON-RPC message"},
		"no session":      {"", `{"jsonrpc":"2.0","id":5,"method":"a"}`, 404, "process has ended"},
		"another session": {"x", `{"jsonrpc":"2.0","id":5,"method":"a"}`, 404, "process has ended"},
		"same ID twice":   {id, `[{"jsonrpc":"2.0","id":5,"method":"a"},{"jsonrpc":"2.0","id":5.0,"method":"a"}]`, 400, "under way"},
		"notification":    {id, `{"jsonrpc":"2.0","method":"a"}`, 202, ""},
		"batched answer":  {id, `{"jsonrpc":"2.0","id":2,"method":"tools/call"}`, 200, `"method":"x"`},
		"noise":           {id, `{"jsonrpc":"2.0","id":3,"method":"tools/call"}`, 200, `"result":3`},
	} {
		if status, body, _ := ask(t, c, q.session, q.body); status != q.status || !strings.Contains(body, q.want) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for method, want := range map[string]int{http.MethodPut: 405, http.MethodDelete: 200} {
		r := request(t)
		r.Method = method
		resp, err := c.RoundTrip(r)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v %v", method, resp, err)
		}
		_ = resp.Body.Close()
	}
	if status, body, _ := ask(t, c, id, hello); status != 0 || !strings.Contains(body, "stopped") {
		t.Error("after the end:", status, body)
	}
}

func TestProbe(t *testing.T) {
	for script, want := range map[string]string{
		initialized(`cat`): "sh 1, protocol 2025-06-18",
		`read -r l; echo '{"jsonrpc":"2.0","method":"log"}'; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"v"}}'; cat`: "protocol v",
		`read -r l; echo '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}'; cat`:                                         "it refuses initialize: no",
		`read -r l; echo '{"jsonrpc":"2.0","id":1,"result":{}}'; cat`:                                                               "names no protocol version",
		`exit 7`: "exit status 7",
	} {
		got, err := Probe(t.Context(), Options{Command: []string{"/bin/sh", "-c", script}})
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s", script, got)
		}
	}
}
