//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs the README's commands as they stand, in a fresh clone. What differs per machine, the ports
// and the data folder, comes in through the environment.
func TestReadme(t *testing.T) {
	clone := filepath.Join(t.TempDir(), "clone")
	runIn(t, hung, t.TempDir(), nil, "git", "clone", "--quiet", "--no-local", shared.root, clone).must(t)
	readme, err := os.ReadFile(filepath.Join(shared.root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{
		t: t, data: filepath.Join(t.TempDir(), "data"),
		listen: fmt.Sprintf("127.0.0.1:%d", freePort(t)), admin: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
	}
	env := []string{"DORMOUSE_DATA=" + g.data, "DORMOUSE_LISTEN=" + g.listen, "DORMOUSE_ADMIN_LISTEN=" + g.admin}

	g.log = filepath.Join(clone, "serve.log")
	p := startProc(t, g.log, env, "bash", "-c", block(t, string(readme), "serve"))
	eventually(t, 3*hung, "the README's serve is ready", func(ctx context.Context) error {
		if !p.running() {
			t.Fatalf("it ended: %s", tail(g.log, 4000))
		}
		status, body, err := g.get(ctx, "http://"+g.listen+"/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s: %w", status, body, errWrongAnswer)
		}
		return err
	})
	// The client's lines name the default address; here the gateway listens elsewhere.
	client := strings.ReplaceAll(block(t, string(readme), "client"), "127.0.0.1:8808", g.listen)
	r := runIn(t, hung, clone, env, "bash", "-euc", client).must(t)
	if !strings.Contains(strings.ToLower(r.stdout), "mcp-session-id") {
		t.Errorf("the README's client lines showed no session:\n%s%s", r.stdout, r.stderr)
	}
	r = runIn(t, hung, clone, env, "bash", "-euc", block(t, string(readme), "look")).must(t)
	if !strings.Contains(r.stdout, "created") {
		t.Errorf("the README's look into the journal shows no event:\n%s", r.stdout)
	}
	// The gate runs the test command itself, in a fresh clone: .ci/run, step unit.
	if got := strings.TrimSpace(block(t, string(readme), "test")); got != "go test ./..." {
		t.Errorf("the README's test command is %q, and the gate runs another", got)
	}
	runIn(t, 2*hung, clone, nil, "bash", "-euc", block(t, string(readme), "demo")).must(t)
}

// block returns the fenced code behind the comment <!-- run: name -->.
func block(t *testing.T, text, name string) string {
	t.Helper()
	m := regexp.MustCompile("(?s)<!-- run: " + regexp.QuoteMeta(name) + " -->\n```[a-z]*\n(.*?)\n```").FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("README.md has no block <!-- run: %s -->", name)
	}
	return m[1]
}
