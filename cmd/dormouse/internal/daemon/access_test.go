package daemon_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

func (r *running) initialize(authorization string) (int, string, http.Header) {
	r.t.Helper()
	h := map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
	if authorization != "" {
		h["Authorization"] = authorization
	}
	return r.ask(http.MethodPost, "http://"+r.status.Listen+"/mcp", initialize, h)
}

// With --auth jwt whoever has a token of the issuer gets in, and the others learn where to get one.
func TestJWTs(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Use: "sig"}}})
	}))
	defer issuer.Close()
	const resource = "https://mcp.example/mcp"
	r := run(t, func(c *daemon.Config) {
		c.JWT = &gateway.JWTOptions{Issuer: issuer.URL, Audience: resource, JWKS: issuer.URL + "/keys"}
	})
	status, _, h := r.initialize("")
	if want := `resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp"`; status != http.StatusUnauthorized || !strings.Contains(h.Get("WWW-Authenticate"), want) {
		t.Errorf("without a token: %d %v", status, h)
	}
	for _, path := range []string{"", "/mcp"} {
		status, text, _ := r.ask(http.MethodGet, "http://"+r.status.Listen+"/.well-known/oauth-protected-resource"+path, "", nil)
		if status != http.StatusOK || !strings.Contains(text, `"resource":"`+resource+`"`) || !strings.Contains(text, issuer.URL) {
			t.Errorf("metadata: %d %s", status, text)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":"alice","exp":%d}`, issuer.URL, resource, time.Now().Add(time.Hour).Unix()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if status, text, _ := r.initialize("Bearer " + token); status != http.StatusOK {
		t.Errorf("with a token: %d %s", status, text)
	}
	if _, text := r.admin(http.MethodGet, "/internal/sessions", ""); strings.Contains(text, token) || !strings.Contains(text, `"count":1`) {
		t.Errorf("%s", text)
	}
	for forward, want := range map[bool]string{false: "", true: "Bearer " + token} {
		got := make(chan string, 10)
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got <- r.Header.Get("Authorization")
			http.Error(w, "no", http.StatusForbidden)
		}))
		behind := run(t, func(c *daemon.Config) {
			c.JWT = &gateway.JWTOptions{Issuer: issuer.URL, Audience: resource, JWKS: issuer.URL + "/keys"}
			c.Upstream, c.ForwardAuthorization = upstream.URL, forward
		})
		if status, _, _ := behind.initialize("Bearer " + token); status != http.StatusForbidden {
			t.Errorf("%d", status)
		}
		if saw := <-got; saw != want {
			t.Errorf("forward %v: the upstream saw %.20q", forward, saw)
		}
		upstream.Close()
	}
}

// A token file that has changed is taken over without a restart or a signal.
func TestTokenFileIsTakenOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ci:0123456789abcdef-secret\n")
	r := run(t, func(c *daemon.Config) { c.AuthTokenFile = path })
	write("ci:0123456789abcdef-second\n")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if status, _, _ := r.initialize("Bearer 0123456789abcdef-second"); status == http.StatusOK {
			break
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the new token is never taken")
		}
	}
	if status, _, _ := r.initialize("Bearer 0123456789abcdef-secret"); status != http.StatusUnauthorized {
		t.Errorf("the former token: %d", status)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	r := run(t, func(c *daemon.Config) { c.Limits.PerTenant = gateway.Rate{N: 2, Per: time.Hour} })
	status, _, h := r.mcp("", initialize)
	session := h.Get("Mcp-Session-Id")
	for i, want := range []int{200, 200, 429} {
		if status != http.StatusOK {
			t.Fatal(status)
		}
		if got, text, h := r.mcp(session, listTools); got != want || want == 429 && h.Get("Retry-After") == "" {
			t.Errorf("%d: %d %s", i, got, text)
		}
	}
	if status, text, _ := r.mcp("", initialize); status != http.StatusOK {
		t.Errorf("initialize has a share of its own: %d %s", status, text)
	}
}

func TestAccessRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	jwt := &gateway.JWTOptions{Issuer: "i", Audience: "a", JWKS: "https://issuer.example/keys"}
	for name, c := range map[string]daemon.Config{
		"JWT without an issuer":   {Listen: "127.0.0.1:0", JWT: &gateway.JWTOptions{Audience: "a", JWKS: "https://issuer.example/keys"}},
		"JWT and tokens":          {Listen: "127.0.0.1:0", JWT: jwt, AuthTokenFile: "x"},
		"JWT and passthrough":     {Listen: "127.0.0.1:0", JWT: jwt, Passthrough: true, Upstream: "http://127.0.0.1:1"},
		"keys over plain http":    {Listen: "127.0.0.1:0", JWT: &gateway.JWTOptions{Issuer: "i", Audience: "a", JWKS: "http://issuer.example/keys"}},
		"open to all, all of IP6": {Listen: "[::]:0"},
	} {
		c.Store = store.Options{Dir: dir, Create: true}
		if err := daemon.Run(t.Context(), c); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
}

// The admin listener wants its token, whole and as a bearer's, for all but the metrics; the clients' listener has nothing of
// the operator's.
func TestAdminToken(t *testing.T) {
	t.Parallel()
	r := run(t, nil)
	for _, c := range []struct{ method, path string }{
		{http.MethodGet, "/internal/sessions"}, {http.MethodPost, "/internal/export-sessions"}, {http.MethodPost, "/internal/restore-sessions"},
	} {
		for _, token := range []string{
			"", "Bearer", "Bearer " + r.token[:len(r.token)-1], "Bearer " + r.token + "x", "Bearer " + strings.ToLower(r.token),
			"Bearer " + r.token + " " + r.token, "Basic " + r.token, r.token, "Bearer " + strings.Repeat("A", len(r.token)),
		} {
			if status, text, h := r.ask(c.method, "http://"+r.status.Admin+c.path, "[]", map[string]string{"Authorization": token}); status != http.StatusUnauthorized ||
				h.Get("WWW-Authenticate") == "" || strings.Contains(text, r.token) {
				t.Errorf("%s with a wrong token: %d", c.path, status)
			}
		}
		for _, path := range []string{c.path, "/metrics", "/console/"} {
			if status, _, _ := r.ask(c.method, "http://"+r.status.Listen+path, "[]", map[string]string{"Authorization": "Bearer " + r.token}); status != http.StatusNotFound {
				t.Errorf("%s on the clients' listener: %d", path, status)
			}
		}
	}
	if status, _ := r.admin(http.MethodGet, "/internal/sessions", ""); status != http.StatusOK {
		t.Errorf("the token: %d", status)
	}
	if info, err := os.Stat(filepath.Join(r.dir, "admin.token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// Addresses that a tenant must not name, in every spelling, are refused when a session is created and when one is restored. What
// a name resolves to is judged when it is dialed: see TestSSRFAtDial of package n8n.
func TestSSRFAtCreateAndRestore(t *testing.T) {
	t.Parallel()
	r := run(t, func(c *daemon.Config) { c.URLPolicy = n8n.Strict })
	create := func(url string) (int, string) {
		status, text, _ := r.ask(http.MethodPost, "http://"+r.status.Listen+"/mcp", initialize, map[string]string{
			"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "X-N8n-Url": url, "X-N8n-Key": "k", "X-Instance-Id": "i",
		})
		return status, text
	}
	restore := func(url string) (int, string) {
		now := time.Now().UTC().Format(time.RFC3339)
		state, err := json.Marshal([]any{map[string]any{
			"sessionId": "00000000-0000-4000-8000-000000000001", "metadata": map[string]string{"createdAt": now, "lastAccess": now},
			"context": map[string]string{"n8nApiUrl": url, "n8nApiKey": "k", "instanceId": "i"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return r.admin(http.MethodPost, "/internal/restore-sessions", string(state))
	}
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.01", "0", "localhost", "a.localhost", "LOCALHOST.",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1",
		"169.254.169.254", "169.254.170.2", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "425.510.425.510", "100.100.100.200", "168.63.129.16", "192.0.0.192",
		"metadata", "metadata.google.internal", "METADATA.GOOGLE.INTERNAL.", "instance-data",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
		"[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:a9fe:a9fe::1]", "[2606:4700::5efe:10.0.0.1]",
		"[fe80::1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[fc00::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]",
		"user@169.254.169.254", "good.example@127.0.0.1", "good.example%2f@127.0.0.1", "127.0.0.1%00.good.example", "127。0。0。1", "①②⑦.⓪.⓪.①",
	} {
		url := "http://" + host
		if status, text := create(url); status != http.StatusBadRequest {
			t.Errorf("create with %s: %d %s", url, status, text)
		}
		if status, text := restore(url); status != http.StatusOK || !strings.Contains(text, `"invalid":1`) {
			t.Errorf("restore with %s: %d %s", url, status, text)
		}
	}
	if _, text := r.admin(http.MethodGet, "/internal/sessions", ""); !strings.Contains(text, `"count":0`) {
		t.Errorf("%s", text)
	}
	const good = "https://n8n.example.com"
	if status, text := create(good); status != http.StatusOK {
		t.Errorf("create with %s: %d %s", good, status, text)
	}
	if status, text := restore(good); status != http.StatusOK || !strings.Contains(text, `"restored":1`) {
		t.Errorf("restore with %s: %d %s", good, status, text)
	}
}
