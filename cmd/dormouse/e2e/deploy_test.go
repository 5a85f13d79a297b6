//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeploy starts what deploy/ describes, for real: three nats-servers on deploy/nats/nats-server.conf, n8n-mcp, two
// replicas and HAProxy on deploy/haproxy/haproxy.cfg, with the environment of deploy/compose.yaml. Then it kills one
// part after the other under a client that goes on.
func TestDeploy(t *testing.T) {
	d := startDeployment(t)
	acme := map[string]string{
		"Authorization": "Bearer " + d.clientToken, "x-n8n-url": d.n8n, "x-n8n-key": "key-of-acme", "x-instance-id": "acme",
	}
	all := startClients(t)
	c := all.connect("acme", d.url(), acme)
	c.mustHave("n8n_health_check")

	stranger := post(t, d.url(), map[string]string{"x-n8n-url": d.n8n, "x-n8n-key": "key-of-acme", "x-instance-id": "acme"}, initialize)
	if stranger.status != http.StatusUnauthorized {
		t.Errorf("without a token: %v", stranger)
	}
	for _, victim := range []string{"dormouse-1", "nats-1", "n8n-mcp"} {
		d.procs[victim].kill()
		if victim == "n8n-mcp" { // the only one of its kind
			d.start(victim)
		}
		c.mustCall(callLimit, "tools_documentation", map[string]any{}, "n8n")
		if victim != "n8n-mcp" {
			d.start(victim)
		}
		d.waitBalanced()
		for range 4 { // both replicas
			c.mustCall(callLimit, "tools_documentation", map[string]any{}, "n8n")
		}
	}
	if err := c.terminate(); err != nil {
		t.Errorf("DELETE: %v", err)
	}
}

// deployment is deploy/compose.yaml as processes.
type deployment struct {
	t           *testing.T
	dir         string
	compose     composition
	hosts       *hosts
	natsServer  string
	n8n         string
	clientToken string
	replace     map[string]string // paths inside the containers, and where they are here
	procs       map[string]*proc
}

func startDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{
		t: t, dir: t.TempDir(), hosts: &hosts{t, map[string]int{}}, procs: map[string]*proc{},
		n8n: "http://127.0.0.1:5678", clientToken: "client-token-of-32-characters-and-more",
	}
	d.compose = readCompose(t, map[string]string{
		"NATS_PASSWORD": "password-of-nats", "UPSTREAM_TOKEN": upstreamToken, "CLIENT_TOKENS": "acme:" + d.clientToken,
	})
	d.natsServer = filepath.Join(d.dir, "nats-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", d.natsServer, "github.com/nats-io/nats-server/v2")
	build.Dir = shared.root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("nats-server: %v\n%s", err, out)
	}
	d.replace = map[string]string{
		"/etc/dormouse/keys":          filepath.Join(d.dir, "keys"),
		"/run/secrets/upstream-token": d.secret("upstream-token", upstreamToken),
		"/run/secrets/client-tokens":  d.secret("client-tokens", "acme:"+d.clientToken),
	}
	keys := d.compose.Services["keys"].Command
	run(t, hung, append(keys[:len(keys)-1:len(keys)-1], d.replace[keys[len(keys)-1]])...).must(t)
	for _, name := range []string{"nats-1", "nats-2", "nats-3", "n8n-mcp"} {
		d.start(name)
	}
	for i := range 3 { // the file's depends_on
		d.waitOK(fmt.Sprintf("nats-%d", i+1), "8222", "/healthz")
	}
	for _, name := range []string{"dormouse-1", "dormouse-2", "balancer"} {
		d.start(name)
	}
	d.waitBalanced()
	return d
}

func (d *deployment) secret(name, text string) string {
	file := filepath.Join(d.dir, name)
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return file
}

func (d *deployment) url() string { return "http://" + d.hosts.addr("balancer:8808") + "/mcp" }

// start starts a service, or starts it again.
func (d *deployment) start(name string) {
	d.t.Helper()
	s, ok := d.compose.Services[name]
	if !ok {
		d.t.Fatalf("compose.yaml has no service %s", name)
	}
	env := d.hosts.environment(name, s, d.replace)
	var argv []string
	switch {
	case strings.HasPrefix(name, "nats-"):
		argv = d.nats(name)
		env = append(env, "NATS_DATA="+filepath.Join(d.dir, name))
	case strings.HasPrefix(name, "dormouse-"):
		argv = append([]string{shared.binary}, s.Command...)
		env = append(env, "DORMOUSE_DATA="+filepath.Join(d.dir, name))
	case name == "n8n-mcp":
		argv = []string{shared.node, filepath.Join(shared.npm, "node_modules/n8n-mcp/dist/mcp/index.js")}
		_, port, _ := strings.Cut(d.hosts.addr("n8n-mcp:3000"), ":")
		env = append(env, "HOST=127.0.0.1", "PORT="+port, "WEBHOOK_SECURITY_MODE=moderate")
	case name == "balancer":
		argv = []string{haproxy(d.t), "-db", "-f", filepath.Join(shared.root, "deploy/haproxy/haproxy.cfg")}
	}
	d.procs[name] = startProc(d.t, filepath.Join(d.dir, name+".log"), env, argv...)
}

// nats is the command of a node: the file of deploy/, with the addresses of this machine in place of the file's.
func (d *deployment) nats(name string) []string {
	var routes []string
	for i := range 3 {
		routes = append(routes, "nats://"+d.hosts.addr(fmt.Sprintf("nats-%d:6222", i+1)))
	}
	_, port, _ := strings.Cut(d.hosts.addr(name+":4222"), ":")
	return []string{
		d.natsServer, "--config", filepath.Join(shared.root, "deploy/nats/nats-server.conf"), "--addr", "127.0.0.1", "--port", port,
		"--cluster", "nats://" + d.hosts.addr(name+":6222"),
		"--routes", strings.Join(routes, ","), "--http_port", strings.TrimPrefix(d.hosts.addr(name+":8222"), "127.0.0.1:"),
	}
}

// waitBalanced waits until both replicas are ready and the balancer has seen it.
func (d *deployment) waitBalanced() {
	d.t.Helper()
	for _, name := range []string{"dormouse-1", "dormouse-2", "balancer"} {
		d.waitOK(name, "8808", "/readyz")
	}
}

// waitOK waits until a service answers 200.
func (d *deployment) waitOK(name, port, path string) {
	d.t.Helper()
	eventually(d.t, callLimit, name+" ready", func(ctx context.Context) error {
		if !d.procs[name].running() {
			return fmt.Errorf("it ended: %s", tail(d.procs[name].log, 2000))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.hosts.addr(name+":"+port)+path, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", resp.Status, drain(resp.Body))
		}
		return nil
	})
}

func haproxy(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"haproxy", "/usr/sbin/haproxy"} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Fatal("haproxy is missing: apt-get install haproxy")
	return ""
}
