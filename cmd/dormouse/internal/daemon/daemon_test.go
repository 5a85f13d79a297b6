package daemon_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

// running is a daemon in this process.
type running struct {
	t      *testing.T
	status control.Status
	token  string
	n8n    string // what tenants send as their URL
	dir    string
	stop   func()
	loses  bool // it is to say at its end that it could not store everything
}

func run(t *testing.T, change func(*daemon.Config)) *running {
	t.Helper()
	c := daemon.Config{
		Store: store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}, Version: "test", Replica: "r1",
		Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", ShutdownTimeout: 20 * time.Second,
	}
	if change != nil {
		change(&c)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- daemon.Run(ctx, c) }()
	r := &running{t: t, n8n: "http://127.0.0.1:5678", dir: c.Store.Dir, stop: stop}
	t.Cleanup(func() {
		stop()
		if err := <-done; (err != nil) != r.loses {
			t.Errorf("daemon: %v", err)
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for r.status.State != "ready" {
		select {
		case <-tick.C:
		case err := <-done:
			done <- err
			t.Fatalf("it ended: %v", err)
		case <-t.Context().Done():
			t.Fatal("never ready")
		}
		if client, err := control.Connect(ctx, c.Store.Dir); err == nil {
			r.status, _ = client.Status(ctx)
		}
	}
	token, err := os.ReadFile(filepath.Join(c.Store.Dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	r.token = strings.TrimSpace(string(token))
	return r
}

// ask sends a request with these headers and returns the answer.
func (r *running) ask(method, url, body string, headers map[string]string) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header
}

func (r *running) admin(method, path, body string) (int, string) {
	r.t.Helper()
	status, text, _ := r.ask(method, "http://"+r.status.Admin+path, body, map[string]string{"Authorization": "Bearer " + r.token})
	return status, text
}

// mcp sends a JSON-RPC message as a tenant.
func (r *running) mcp(session, message string) (int, string, http.Header) {
	r.t.Helper()
	h := map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"X-N8n-Url": r.n8n, "X-N8n-Key": "a-key-of-acme", "X-Instance-Id": "acme",
	}
	if session != "" {
		h["Mcp-Session-Id"] = session
	}
	return r.ask(http.MethodPost, "http://"+r.status.Listen+"/mcp", message, h)
}

// reachable reports whether the clients' listener accepts connections.
func (r *running) reachable() bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(r.t.Context(), "tcp", r.status.Listen)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	listTools  = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
)

// TestMove exports sessions from one daemon and restores them in another, in both forms: the client goes on there.
func TestMove(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	withKey := func(c *daemon.Config) { c.ExportKeyFile = key }
	from, to := run(t, withKey), run(t, withKey)
	status, _, h := from.mcp("", initialize)
	session := h.Get("Mcp-Session-Id")
	if status != http.StatusOK || session == "" {
		t.Fatalf("initialize: %d", status)
	}
	if _, text := from.admin(http.MethodGet, "/metrics", ""); !strings.Contains(text, "mcp_sessions_active 1") || strings.Contains(text, "mcp_sessions_export") {
		t.Errorf("metrics before the export:\n%s", text)
	}
	status, text := from.admin(http.MethodPost, "/internal/export-sessions", "")
	var export struct {
		Exported int
		Sessions json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &export); err != nil || status != http.StatusOK || export.Exported != 1 {
		t.Fatalf("export: %d %s", status, text)
	}
	status, encrypted := from.admin(http.MethodPost, "/internal/export-sessions?format=encrypted", "")
	if status != http.StatusOK || strings.Contains(encrypted, session) || strings.Count(encrypted, ":") != 2 {
		t.Fatalf("encrypted export: %d", status)
	}
	if status, _, _ := to.mcp(session, listTools); status != http.StatusNotFound {
		t.Errorf("before the restore: %d", status)
	}
	if status, text := to.admin(http.MethodPost, "/internal/restore-sessions", encrypted); status != http.StatusOK || !strings.Contains(text, `"restored":1`) {
		t.Fatalf("restore: %d %s", status, text)
	}
	if status, answer := to.admin(http.MethodPost, "/internal/restore-sessions", text); status != http.StatusOK || !strings.Contains(answer, `"duplicate":1`) {
		t.Errorf("restore of an export's answer: %d %s", status, answer)
	}
	if status, text := to.admin(http.MethodPost, "/internal/restore-sessions", string(export.Sessions)); status != http.StatusOK || !strings.Contains(text, `"duplicate":1`) {
		t.Errorf("restore again: %d %s", status, text)
	}
	if status, text, _ := to.mcp(session, listTools); status != http.StatusOK || !strings.Contains(text, "n8n_list_workflows") {
		t.Errorf("the client goes on: %d %s", status, text)
	}
	if _, text := to.admin(http.MethodGet, "/metrics", ""); !strings.Contains(text, "mcp_sessions_restored 0") {
		t.Error("the last restore took in none; the metric says otherwise")
	}
}

func TestAdminRefuses(t *testing.T) {
	t.Parallel()
	r := run(t, nil)
	for _, path := range []string{"/internal/export-sessions", "/internal/restore-sessions"} {
		for _, token := range []string{"", "Bearer ", "Bearer " + r.token[1:], "Basic " + r.token, r.token} {
			status, text, _ := r.ask(http.MethodPost, "http://"+r.status.Admin+path, "[]", map[string]string{"Authorization": token})
			if status != http.StatusUnauthorized || strings.Contains(text, r.token) {
				t.Errorf("%s with a wrong token: %d", path, status)
			}
		}
	}
	for _, body := range []string{"", "{}", "null", "7", `"x"`, "[", `{"sessions":[]}`, `{"exported":0,"sessions":[],"more":1}`} {
		if status, text := r.admin(http.MethodPost, "/internal/restore-sessions", body); status != http.StatusBadRequest {
			t.Errorf("restore of %q: %d %s", body, status, text)
		}
	}
	if status, _ := r.admin(http.MethodPost, "/internal/restore-sessions", strings.Repeat(strings.Repeat("A", 22)+"==:", 2)+"AAAA"); status != http.StatusConflict {
		t.Errorf("encrypted without a key: %d", status)
	}
	if status, text := r.admin(http.MethodPost, "/internal/restore-sessions", `[null, {}, 7, {"sessionId":"../../etc/passwd"}]`); status != http.StatusOK || !strings.Contains(text, `"invalid":4`) {
		t.Errorf("junk: %d %s", status, text)
	}
	if status, _ := r.admin(http.MethodGet, "/internal/nothing", ""); status != http.StatusNotFound {
		t.Errorf("an unknown path: %d", status)
	}
}

// TestTokens: with a token file nobody comes in without one, and the listener may be reached from elsewhere.
func TestTokens(t *testing.T) {
	t.Parallel()
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("ci:0123456789abcdef-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, func(c *daemon.Config) { c.AuthTokenFile = tokens })
	if status, _, _ := r.mcp("", initialize); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	h := map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": "Bearer 0123456789abcdef-secret"}
	if status, text, _ := r.ask(http.MethodPost, "http://"+r.status.Listen+"/mcp", initialize, h); status != http.StatusOK {
		t.Errorf("with it: %d %s", status, text)
	}
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for name, c := range map[string]daemon.Config{
		"open to all":      {Listen: "0.0.0.0:0"},
		"two ways in":      {Listen: "127.0.0.1:0", AuthTokenFile: "x", Passthrough: true, Upstream: "http://127.0.0.1:1"},
		"nobody to check":  {Listen: "127.0.0.1:0", Passthrough: true},
		"no such tokens":   {Listen: "127.0.0.1:0", AuthTokenFile: filepath.Join(dir, "absent")},
		"not an upstream":  {Listen: "127.0.0.1:0", Upstream: "not a URL"},
		"no such key file": {Listen: "127.0.0.1:0", ExportKeyFile: filepath.Join(dir, "absent")},
	} {
		c.Store = store.Options{Dir: dir, Create: true}
		if err := daemon.Run(t.Context(), c); err == nil {
			t.Errorf("%s: it ran", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Fatalf("%s: a folder was made", name)
		}
	}
}
