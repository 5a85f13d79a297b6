//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// canary is a credential that must not be found anywhere.
const canary = "canary-f3b1c9e07d5a4e6b8c2d-credential"

// TestSecretsAreFoundNowhere searches all bytes of the data folder, the logs, the pages and what the commands
// show for a credential, every client's session ID and every upstream's session ID, before and after SIGKILL.
func TestSecretsAreFoundNowhere(t *testing.T) {
	t.Run("upstream", func(t *testing.T) {
		rec := startRecorder(t, startEverything(t).url())
		g := startGateway(t, "--upstream", rec.URL+"/mcp", "--log-level", "trace")
		secrets := leaveTraces(t, g, newTenant(t, "canary"), "echo", map[string]string{"message": "hi"})
		ids := rec.seen()
		if len(ids) < 8 {
			t.Fatalf("the recorder saw %d upstream sessions: is it in the way?", len(ids))
		}
		for i, id := range ids {
			secrets[fmt.Sprintf("upstream session ID %d", i)] = id
		}
		search(t, g.traces(), secrets)
	})
	t.Run("built-in tools", func(t *testing.T) {
		n8n := startN8N(t)
		tenant := addTenant(n8n, "canary")
		if err := n8n.SetKey(tenant.id, canary); err != nil {
			t.Fatal(err)
		}
		g := startGateway(t, "--log-level", "trace")
		secrets := leaveTraces(t, g, tenant, listWorkflows, nil)
		// Failures are what logs tell most about: a key that n8n refuses, an n8n that is gone.
		if err := n8n.SetKey(tenant.id, "another"); err != nil {
			t.Fatal(err)
		}
		h := tenant.with("x-n8n-key", canary)
		call := `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"` + listWorkflows + `","arguments":{}}}`
		id := secrets["session ID 0"]
		refused := post(t, g.url(), withSession(h, id), call)
		_ = n8n.Close()
		gone := post(t, g.url(), withSession(h, id), call)
		traces := g.traces()
		traces["the answer to a refused key"], traces["the answer of an n8n that is gone"] = []byte(refused.body), []byte(gone.body)
		search(t, traces, secrets)
	})
}

// leaveTraces lets clients work with the canary, kills and restarts included, and returns all secrets of theirs.
func leaveTraces(t *testing.T, g *gateway, tenant *tenant, tool string, args any) map[string]string {
	t.Helper()
	ts := startClients(t)
	secrets := map[string]string{"the credential": canary}
	headers := tenant.with("x-n8n-key", canary)
	headers["authorization"] = "Bearer " + canary
	for i := range 8 {
		c := ts.connect(fmt.Sprintf("canary-%d", i), g.url(), headers)
		c.mustCall(callLimit, tool, args, "")
		secrets[fmt.Sprintf("session ID %d", i)] = c.session
		if i%2 == 0 {
			g.kill()
			g.start()
			c.mustCall(callLimit, tool, args, "")
		}
	}
	stranger := "9a4a2f5c-6a0e-4d43-a6cf-222222222222"
	post(t, g.url(), withSession(headers, stranger), toolsList)
	secrets["a session ID that never was"] = stranger
	return secrets
}

// traces returns everything that the gateway shows, then kills it and adds everything that it wrote.
func (g *gateway) traces() map[string][]byte {
	g.t.Helper()
	traces := map[string][]byte{
		"/metrics": []byte(g.page("http://" + g.admin + "/metrics")),
		"/healthz": []byte(g.page("http://" + g.listen + "/healthz")),
		"/readyz":  []byte(g.page("http://" + g.listen + "/readyz")),
	}
	for _, args := range [][]string{
		{"sessions", "ls"}, {"sessions", "ls", "--json"}, {"sessions", "show", g.refs(8)[0]}, {"log"}, {"log", "--json"}, {"doctor"},
	} {
		r := g.cli(args...)
		traces["dormouse "+strings.Join(args, " ")] = []byte(r.stdout + r.stderr)
	}
	g.kill()
	files(g.t, filepath.Dir(g.data), traces)
	return traces
}

// files adds every file below dir.
func files(t *testing.T, dir string, to map[string][]byte) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		found++
		to["file "+strings.TrimPrefix(path, dir)] = data
		to["name "+path] = []byte(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 4 {
		t.Fatalf("only %d files in the data folder", found)
	}
}

func search(t *testing.T, in map[string][]byte, secrets map[string]string) {
	t.Helper()
	total := 0
	for place, data := range in {
		total += len(data)
		for what, secret := range secrets {
			for form, pattern := range forms(secret) {
				if bytes.Contains(data, pattern) {
					t.Errorf("%s: %s is there, %s", place, what, form)
				}
			}
		}
	}
	t.Logf("searched %d places, %d bytes, for %d secrets", len(in), total, len(secrets))
}

// forms are the ways in which a secret might be written: as it is, in hexadecimal, in base64 at every
// alignment, and, for a UUID, its 16 bytes.
func forms(secret string) map[string][]byte {
	f := map[string][]byte{
		"as it is":        []byte(secret),
		"in upper case":   []byte(strings.ToUpper(secret)),
		"backwards":       reversed(secret),
		"in hexadecimal":  []byte(hex.EncodeToString([]byte(secret))),
		"in HEXADECIMAL":  []byte(strings.ToUpper(hex.EncodeToString([]byte(secret)))),
		"in UTF-16":       []byte(strings.Join(strings.Split(secret, ""), "\x00")),
		"percent-encoded": []byte("%" + strings.ToUpper(strings.Join(hexPairs(secret), "%"))),
	}
	for shift := range 3 {
		// What stands before the secret moves its base64; the characters that mix with neighbors are cut.
		padded := append(make([]byte, shift), secret...)
		std := base64.StdEncoding.EncodeToString(padded)
		url := base64.URLEncoding.EncodeToString(padded)
		from, to := (shift*8+5)/6, len(padded)*8/6
		f[fmt.Sprintf("in base64, shift %d", shift)] = []byte(std[from:to])
		f[fmt.Sprintf("in base64url, shift %d", shift)] = []byte(url[from:to])
	}
	if packed, err := hex.DecodeString(strings.ReplaceAll(secret, "-", "")); err == nil && len(packed) == 16 {
		f["as 16 bytes"] = packed
		f["without hyphens"] = []byte(strings.ReplaceAll(secret, "-", ""))
	}
	return f
}

func hexPairs(s string) (pairs []string) {
	for _, b := range []byte(s) {
		pairs = append(pairs, hex.EncodeToString([]byte{b}))
	}
	return pairs
}

func reversed(s string) []byte {
	b := []byte(s)
	slices.Reverse(b)
	return b
}

// TestFormsAreFound: the search would find a secret, whatever stands around it.
func TestFormsAreFound(t *testing.T) {
	secret := "9a4a2f5c-6a0e-4d43-a6cf-333333333333"
	for prefix := range 7 {
		text := strings.Repeat("x", prefix) + secret + "tail"
		for _, data := range []string{
			text,
			base64.StdEncoding.EncodeToString([]byte(text)),
			base64.RawURLEncoding.EncodeToString([]byte(text)),
			hex.EncodeToString([]byte(text)),
		} {
			found := false
			for _, pattern := range forms(secret) {
				found = found || strings.Contains(data, string(pattern))
			}
			if !found {
				t.Errorf("not found in %q", data)
			}
		}
	}
}
