//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// startN8NMCPEngine starts n8n-mcp's engine embedded in a program of its own, as its library guide shows.
func startN8NMCPEngine(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{t: t, port: freePort(t), log: filepath.Join(t.TempDir(), "engine.log")}
	u.env = []string{
		"AUTH_TOKEN=" + upstreamToken, "ENABLE_MULTI_TENANT=true", "MULTI_TENANT_ALLOW_CONCURRENT_SESSIONS=true",
		"WEBHOOK_SECURITY_MODE=moderate", "N8N_MCP_TELEMETRY_DISABLED=true", "LOG_LEVEL=error",
	}
	u.argv = []string{shared.node, filepath.Join(shared.npm, "sessions.mjs"), "serve", fmt.Sprint(u.port)}
	u.probe = func(ctx context.Context) error { return answers(ctx, u.url()) }
	u.start()
	return u
}

// node runs sessions.mjs to its end.
func node(t *testing.T, args ...string) string {
	t.Helper()
	env := []string{"AUTH_TOKEN=" + upstreamToken, "N8N_MCP_TELEMETRY_DISABLED=true", "LOG_LEVEL=error", "WEBHOOK_SECURITY_MODE=moderate"}
	argv := append([]string{filepath.Join(shared.npm, "sessions.mjs")}, args...)
	return runIn(t, hung, t.TempDir(), env, shared.node, argv...).must(t).stdout
}

// TestMigrateFromN8NMCP: real clients are connected to n8n-mcp's own engine. What its exportSessionState gives is
// restored in Dormouse, which takes the engine's place on its port; the same client objects, which still
// hold the session IDs that n8n-mcp gave them, call on and get their tenants' answers.
func TestMigrateFromN8NMCP(t *testing.T) {
	// The token that n8n-mcp wanted goes on to work, given to a tenant or not.
	for name, tokens := range map[string]string{
		"no token": "", "token": "everybody:" + upstreamToken, "token of a tenant": "everybody everyone " + upstreamToken,
	} {
		t.Run(name, func(t *testing.T) { migrate(t, tokens) })
	}
}

func migrate(t *testing.T, tokens string) {
	t.Helper()
	engine := startN8NMCPEngine(t)
	ts := startClients(t)
	n8n := startN8N(t)
	clients := map[*client]*tenant{}
	forms := []*regexp.Regexp{
		regexp.MustCompile(`^instance-moving-\d-[0-9a-f]+-[0-9a-f-]{36}$`), regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f-]{27}$`),
	}
	for i := range 4 {
		tenant := addTenant(n8n, fmt.Sprintf("moving-%d", i))
		headers, form := tenant.with("authorization", "Bearer "+upstreamToken), forms[0]
		if i%2 == 1 { // without an instance ID
			delete(headers, "x-instance-id")
			form = forms[1]
		}
		c := ts.connect(tenant.id, engine.url(), headers)
		if !form.MatchString(c.session) {
			t.Fatalf("n8n-mcp's session ID has another form: want %s", form)
		}
		c.mustCall(callLimit, listWorkflows, nil, tenant.marker)
		clients[c] = tenant
	}
	file := filepath.Join(t.TempDir(), "n8n-mcp.json")
	saveExport(t, engine, file)
	engine.kill()

	dir := t.TempDir()
	g := &gateway{
		t: t, data: filepath.Join(dir, "data"), log: filepath.Join(dir, "dormouse.log"),
		listen: fmt.Sprintf("127.0.0.1:%d", engine.port), admin: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
	}
	if tokens != "" {
		file := filepath.Join(dir, "tokens")
		if err := os.WriteFile(file, []byte(tokens+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		g.args = []string{"--auth-token-file", file}
	}
	g.start()
	var got struct{ Entries, Restored int }
	if err := json.Unmarshal([]byte(g.cli("restore", file, "--json").must(t).stdout), &got); err != nil || got.Entries != 4 || got.Restored != 4 {
		t.Fatalf("restore: %+v, %v", got, err)
	}
	for c, tenant := range clients {
		thief := tenant.with("x-n8n-key", "guessed")
		thief["authorization"] = "Bearer " + upstreamToken
		status := speak(t, g.url(), c.session, thief)
		if status != http.StatusNotFound {
			t.Errorf("a stranger with the session ID gets %d", status)
		}
		c.mustCall(callLimit, listWorkflows, nil, tenant.marker)
		c.mustHave(listWorkflows)
	}
	if again := g.cli("restore", file).must(t); !regexp.MustCompile(`(?m)^duplicate +4 `).MatchString(again.stdout) {
		t.Errorf("restored twice:\n%s", again.stdout)
	}
	g.kill()
	g.start()
	for c, tenant := range clients {
		c.mustCall(callLimit, listWorkflows, nil, tenant.marker)
	}
	roundTrip(t, g)
	g.checkLog()
}

// roundTrip: what Dormouse exports, the guide's code in Node decrypts and n8n-mcp's engine restores, and what the
// guide's code encrypts, Dormouse restores.
func roundTrip(t *testing.T, g *gateway) {
	t.Helper()
	dir := t.TempDir()
	hexKey := strings.Repeat("0123456789abcdef", 4)
	key, plain, sealed := filepath.Join(dir, "key"), filepath.Join(dir, "s.json"), filepath.Join(dir, "s.enc")
	if err := os.WriteFile(key, []byte(hexKey), 0o600); err != nil {
		t.Fatal(err)
	}
	g.cli("export", "--export-key-file", key, "-o", sealed).must(t)
	g.cli("export", "--format", "json", "--plaintext", "-o", plain).must(t)
	want, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	if got := node(t, "decrypt", sealed, hexKey); got != string(want) {
		t.Errorf("Node decrypts %d bytes that are not the %d of the JSON export", len(got), len(want))
	}
	for _, field := range []string{`"n8nApiTimeout":45000`, `"n8nApiMaxRetries":5`} {
		if n := strings.Count(string(want), field); n != 4 {
			t.Errorf("%d of 4 sessions still have %s", n, field)
		}
	}
	if got := node(t, "restore", plain); !strings.Contains(got, "restored=4\n") {
		t.Errorf("n8n-mcp's engine says %q", got)
	}
	back := filepath.Join(dir, "back.enc")
	if err := os.WriteFile(back, []byte(node(t, "encrypt", plain, hexKey)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := g.cli("restore", back, "--export-key-file", key).must(t); !regexp.MustCompile(`(?m)^duplicate +4 `).MatchString(got.stdout) {
		t.Errorf("Node's encrypted file:\n%s%s", got.stdout, got.stderr)
	}
}

// saveExport writes what exportSessionState gives to a file.
func saveExport(t *testing.T, engine *upstream, file string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/export", engine.port), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("export: %s, %v", resp.Status, err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// speak sends a request of a session as somebody with these headers, and returns the answer's status.
func speak(t *testing.T, url, session string, headers map[string]string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("Mcp-Session-Id", session)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
