//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestSecondServeIsRefused: two servers on one folder would corrupt it.
func TestSecondServeIsRefused(t *testing.T) {
	g := startGateway(t)
	ts := startClients(t)
	tenant := newTenant(t, "first")
	c := ts.connect("first", g.url(), tenant.headers())
	second := run(t, hung, "serve", "--data", g.data,
		"--listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--admin-listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	if second.code != 3 { // refused because it would be unsafe
		t.Errorf("the second serve ended with code %d, not 3", second.code)
	}
	if !strings.Contains(second.stderr, g.data) || strings.Contains(second.stderr, "goroutine") {
		t.Errorf("its message does not name the folder, or is no message: %s", second.stderr)
	}
	t.Logf("exit code %d: %s", second.code, strings.TrimSpace(second.stderr))
	c.mustCall(callLimit, listWorkflows, nil, tenant.marker)
	g.kill()
	g.start()
	c.mustCall(callLimit, listWorkflows, nil, tenant.marker)
}

// TestCommandsBesideTheDaemon: every command that looks at the store works while the daemon runs, and those
// that can work on a stopped one's folder do so too.
func TestCommandsBesideTheDaemon(t *testing.T) {
	g := startGateway(t)
	ts := startClients(t)
	tenant := newTenant(t, "beside")
	one, two := ts.connect("one", g.url(), tenant.headers()), ts.connect("two", g.url(), tenant.headers())
	one.mustCall(callLimit, listWorkflows, nil, tenant.marker)
	g.cli("doctor").must(t)
	run(t, hung, "version").must(t)
	refs := g.refs(2)
	for _, ref := range refs {
		if out := g.cli("sessions", "show", ref).must(t).stdout; !strings.Contains(out, ref) {
			t.Errorf("sessions show %s: %s", ref, out)
		}
	}
	kinds := g.kinds()
	if kinds["created"] != 2 || kinds["accessed"] == 0 || kinds["replica-started"] != 1 {
		t.Errorf("the log has %v", kinds)
	}
	g.cli("sessions", "close", refs[0]).must(t)
	ended := 0
	for _, c := range []*client{one, two} {
		if got := post(t, g.url(), withSession(tenant.headers(), c.session), toolsList); got.status == http.StatusNotFound {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("after sessions close, %d of 2 sessions are gone, want 1", ended)
	}
	if !g.process.terminate(hung) {
		t.Error("SIGTERM did not end the daemon")
	}
	g.refs(1)
	if kinds := g.kinds(); kinds["closed"] != 1 || kinds["replica-stopped"] != 1 {
		t.Errorf("the log of the stopped folder has %v", kinds)
	}
	g.cli("doctor").must(t)
	g.start()
	g.refs(1)
	g.checkLog()
}

// refs returns the refs that sessions ls shows, which must be n.
func (g *gateway) refs(n int) (refs []string) {
	g.t.Helper()
	rows, err := jsonRows(g.cli("sessions", "ls", "--json").must(g.t).stdout)
	if err != nil || len(rows) != n {
		g.t.Fatalf("sessions ls --json: %d rows, want %d: %v", len(rows), n, err)
	}
	for _, row := range rows {
		ref, _ := row["ref"].(string)
		refs = append(refs, ref)
	}
	return refs
}

// kinds counts the events that dormouse log shows, by kind.
func (g *gateway) kinds() map[string]int {
	g.t.Helper()
	rows, err := jsonLines(g.cli("log", "--json").must(g.t).stdout)
	if err != nil {
		g.t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, row := range rows {
		kind, _ := row["kind"].(string)
		kinds[kind]++
	}
	return kinds
}
