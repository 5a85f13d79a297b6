package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

// serveChild is `dormouse serve` as a process of its own: this test binary under that name.
type serveChild struct {
	t    *testing.T
	data string
	args []string
	cmd  *exec.Cmd
}

func (s *serveChild) start() control.Status {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(filepath.Dir(s.data), "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(exe, append([]string{"serve", "--data", s.data, "--admin-listen", "off"}, s.args...)...) //nolint:noctx // killed by the test
	s.cmd.Args[0], s.cmd.Stdout, s.cmd.Stderr = "dormouse", log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), hung)
	defer cancel()
	st, err := awaitDaemon(ctx, s.data)
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		s.t.Fatalf("%v\n%s", err, text)
	}
	return st
}

// kill is kill -9.
func (s *serveChild) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	_ = s.cmd.Wait() // it was killed: that is its error
}

// tenantHeaders sends a tenant's headers along.
type tenantHeaders struct{ url, key, instance string }

func (h tenantHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-N8n-Url", h.url)
	r.Header.Set("X-N8n-Key", h.key)
	r.Header.Set("X-Instance-Id", h.instance)
	return http.DefaultTransport.RoundTrip(r)
}

// TestKilledAgainAndAgain is the story: real clients keep their objects and their sessions over several kill -9 of
// the gateway, and each gets its own tenant's answers.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	tenants := []n8ntest.Tenant{{Name: "acme", Key: "key-of-acme-0001"}, {Name: "globex", Key: "key-of-globex-02"}}
	n8n := n8ntest.New(tenants...)
	if err := n8n.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	defer n8n.Close()
	listen := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	gw := &serveChild{t: t, data: filepath.Join(t.TempDir(), "data"), args: []string{"--listen", listen}}
	gw.start()
	defer func() { gw.kill() }()

	var clients []*mcp.ClientSession
	for i := range 4 {
		tenant := tenants[i%2]
		c, err := mcp.NewClient(&mcp.Implementation{Name: "kill-test", Version: "1"}, nil).Connect(t.Context(),
			&mcp.StreamableClientTransport{
				Endpoint: "http://" + listen + "/mcp", HTTPClient: &http.Client{Transport: tenantHeaders{n8n.URL(), tenant.Key, tenant.Name}},
			}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	ids := make([]string, len(clients))
	for i, c := range clients {
		ids[i] = c.ID()
		mustAnswer(t, c, tenants[i%2].Name)
	}
	for range 3 {
		gw.kill()
		if _, err := call(t.Context(), clients[0]); err == nil {
			t.Error("a call was answered while the gateway was dead")
		}
		if st := gw.start(); st.Sessions != len(clients) { // some may be awake: their clients' streams come back by themselves
			t.Fatalf("after the restart: %d sessions; want %d", st.Sessions, len(clients))
		}
		for i, c := range clients {
			mustAnswer(t, c, tenants[i%2].Name)
			if c.ID() != ids[i] {
				t.Errorf("client %d has another session than before", i)
			}
		}
	}
	checkHistory(t, gw.data, len(clients))
}

func call(ctx context.Context, c *mcp.ClientSession) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, hung)
	defer cancel()
	res, err := c.CallTool(ctx, &mcp.CallToolParams{Name: "n8n_list_workflows", Arguments: map[string]any{}})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, content := range res.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			b.WriteString(text.Text)
		}
	}
	if res.IsError {
		return "", errors.New(b.String())
	}
	return b.String(), nil
}

func mustAnswer(t *testing.T, c *mcp.ClientSession, tenant string) {
	t.Helper()
	text, err := call(t.Context(), c)
	if err != nil {
		t.Fatalf("a client of %s: %v", tenant, err)
	}
	if !strings.Contains(text, n8ntest.MarkerTag(tenant)) {
		t.Fatalf("a client of %s got somebody else's answer: %s", tenant, text)
	}
}

// checkHistory asks the daemon what it has recorded.
func checkHistory(t *testing.T, data string, sessions int) {
	t.Helper()
	c, err := control.Connect(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	_, err = c.Log(t.Context(), control.LogQuery{Verdicts: true}, func(e control.Event) error {
		kinds[e.Kind]++
		// A stream and a call may come to a dormant session at once: what one of them notes while the other's claim is
		// on its way happened under the epoch before.
		overtaken := e.Refused == "older-epoch" && (e.Kind == "opened" || e.Kind == "accessed")
		if e.Refused != "" && !overtaken {
			t.Errorf("%s %s was refused: %s", e.Position, e.Kind, e.Refused)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if kinds["created"] != sessions || kinds["replica-started"] != 4 || kinds["replica-stopped"] != 0 || kinds["closed"] != 0 {
		t.Errorf("the journal has %v", kinds)
	}
}
