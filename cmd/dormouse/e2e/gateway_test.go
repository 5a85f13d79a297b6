//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// gateway is a dormouse serve that can be killed and started again on the same folder and ports.
type gateway struct {
	t       *testing.T
	data    string
	listen  string
	admin   string
	args    []string
	env     []string
	log     string
	process *proc
}

// startGateway starts dormouse serve on a new data folder and waits until it is ready.
func startGateway(t *testing.T, args ...string) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{
		t:      t,
		data:   filepath.Join(dir, "data"),
		listen: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		admin:  fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		args:   args,
		log:    filepath.Join(dir, "dormouse.log"),
	}
	g.start()
	return g
}

// start starts it and waits until it is ready.
func (g *gateway) start() {
	g.t.Helper()
	g.launch()
	g.waitReady()
}

func (g *gateway) launch() {
	g.t.Helper()
	argv := append([]string{shared.binary, "serve", "--data", g.data, "--listen", g.listen, "--admin-listen", g.admin}, g.args...)
	g.process = startProc(g.t, g.log, g.env, argv...)
}

func (g *gateway) waitReady() {
	g.t.Helper()
	eventually(g.t, hung, "gateway ready", func(ctx context.Context) error {
		if !g.process.running() {
			g.t.Fatalf("it ended: %s", tail(g.log, 2000))
		}
		status, body, err := g.get(ctx, "http://"+g.listen+"/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

// kill is kill -9.
func (g *gateway) kill() { g.process.kill() }

func (g *gateway) url() string { return "http://" + g.listen + "/mcp" }

func (g *gateway) get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// page returns a page that must answer 200.
func (g *gateway) page(url string) string {
	g.t.Helper()
	status, body, err := g.get(g.t.Context(), url)
	if err != nil || status != http.StatusOK {
		g.t.Fatalf("%s: %d %v %s", url, status, err, body)
	}
	return body
}

// cli runs a dormouse command on the gateway's folder.
func (g *gateway) cli(args ...string) result {
	g.t.Helper()
	return run(g.t, hung, append(args, "--data", g.data)...)
}

// checkLog fails the test when the gateway's log shows a panic or a data race.
func (g *gateway) checkLog() {
	g.t.Helper()
	text := tail(g.log, 64<<20)
	for _, bad := range []string{"panic", "goroutine ", "DATA RACE", "fatal error"} {
		if strings.Contains(text, bad) {
			g.t.Errorf("the gateway's log has %q", bad)
		}
	}
}
