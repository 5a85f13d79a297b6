//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/httptests"
)

// upstream is a real MCP server from npm that can be killed and started again on its port.
type upstream struct {
	t       *testing.T
	port    int
	env     []string
	argv    []string
	log     string
	probe   func(ctx context.Context) error
	process *proc
}

func (u *upstream) start() {
	u.t.Helper()
	u.launch()
	u.waitReady()
}

func (u *upstream) launch() {
	u.t.Helper()
	u.process = startProc(u.t, u.log, u.env, u.argv...)
}

func (u *upstream) waitReady() {
	u.t.Helper()
	eventually(u.t, hung, filepath.Base(u.log)+" ready", func(ctx context.Context) error {
		if !u.process.running() {
			u.t.Fatalf("it ended: %s", tail(u.log, 2000))
		}
		return u.probe(ctx)
	})
}

func (u *upstream) kill() { u.process.kill() }

func (u *upstream) url() string { return fmt.Sprintf("http://127.0.0.1:%d/mcp", u.port) }

// startEverything starts @modelcontextprotocol/server-everything. An unknown session gets 400 from it.
func startEverything(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{t: t, port: freePort(t), log: filepath.Join(t.TempDir(), "everything.log")}
	u.env = []string{fmt.Sprintf("PORT=%d", u.port)}
	u.argv = []string{shared.node, filepath.Join(shared.npm, "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "streamableHttp"}
	u.probe = func(ctx context.Context) error { return answers(ctx, u.url()) }
	u.start()
	return u
}

// upstreamToken is the token that n8n-mcp wants from every client.
const upstreamToken = "e2e-token-of-the-upstream-32-characters-and-more"

// startN8NMCP starts n8n-mcp for many tenants with its default rate limits. An unknown session gets 404 from it.
func startN8NMCP(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{t: t, port: freePort(t), log: filepath.Join(t.TempDir(), "n8n-mcp.log")}
	u.env = []string{
		fmt.Sprintf("PORT=%d", u.port), "HOST=127.0.0.1", "MCP_MODE=http", "AUTH_TOKEN=" + upstreamToken,
		"ENABLE_MULTI_TENANT=true", "MULTI_TENANT_ALLOW_CONCURRENT_SESSIONS=true",
		"WEBHOOK_SECURITY_MODE=moderate", "N8N_MCP_TELEMETRY_DISABLED=true", "LOG_LEVEL=warn",
	}
	u.argv = []string{shared.node, filepath.Join(shared.npm, "node_modules/n8n-mcp/dist/mcp/index.js")}
	u.probe = func(ctx context.Context) error {
		return answers(ctx, fmt.Sprintf("http://127.0.0.1:%d/health", u.port))
	}
	u.start()
	return u
}

// answers reports whether an HTTP server answers there, whatever it says.
func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// recorder stands between the gateway and an upstream and learns the upstream's session IDs.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	sessions map[string]bool
}

func startRecorder(t *testing.T, target string) *recorder {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{sessions: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = to.Scheme, to.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.sessions[id] = true
			}
			return nil
		},
	}
	r.Server = httptests.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, req)
	}))
	return r
}

// seen returns the session IDs that the upstream has given out.
func (r *recorder) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id := range r.sessions {
		ids = append(ids, id)
	}
	return ids
}
