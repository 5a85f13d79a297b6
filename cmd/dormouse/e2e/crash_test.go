//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestFiftySessionsSurviveTwentyKills is the main job: 50 sessions of 10 tenants under traffic, and the
// gateway is killed with SIGKILL twenty times. No session may be lost, no answer may be another tenant's,
// and a call that fails in a gap fails with a clear error, not by hanging.
func TestFiftySessionsSurviveTwentyKills(t *testing.T) {
	const tenants, perTenant, kills = 10, 5, 20
	g := startGateway(t)
	ts := startClients(t)
	sessions := map[*client]string{}
	n8n := startN8N(t)
	for i := range tenants {
		tenant := addTenant(n8n, fmt.Sprintf("tenant-%02d", i))
		for j := range perTenant {
			c := ts.connect(fmt.Sprintf("%s-%d", tenant.id, j), g.url(), tenant.headers())
			c.mustHave(listWorkflows)
			sessions[c] = tenant.marker
		}
	}
	tr := startTraffic(t, sessions, listWorkflows, nil)
	var gap time.Duration
	for i := range kills {
		tr.mark()
		tr.waitAll(hung, len(sessions), 2)
		g.kill()
		if i%5 == 4 {
			pause(t.Context(), 2*time.Second) // long enough for clients to give up their streams
		}
		began := time.Now()
		g.start()
		gap = max(gap, time.Since(began))
	}
	tr.mark()
	tr.waitAll(hung, len(sessions), 3)
	tr.report()
	t.Logf("%d kills; longest from start to ready: %v", kills, gap.Round(time.Millisecond))
	if n := g.sessions(); n != len(sessions) {
		t.Errorf("dormouse sessions ls shows %d sessions, want %d", n, len(sessions))
	}
	g.checkLog()
}

// TestTerminatedSessionStaysEnded: a session that its client ended is not brought back by a restart.
func TestTerminatedSessionStaysEnded(t *testing.T) {
	g := startGateway(t)
	ts := startClients(t)
	tenant := newTenant(t, "ends")
	ended := ts.connect("ended", g.url(), tenant.headers())
	other := ts.connect("other", g.url(), tenant.headers())
	id := ended.session
	if err := ended.terminate(); err != nil {
		t.Fatal(err)
	}
	g.kill()
	g.start()
	if got := post(t, g.url(), withSession(tenant.headers(), id), toolsList); got.status != 404 {
		t.Errorf("a call in an ended session got %v, want 404", got)
	}
	other.mustCall(callLimit, listWorkflows, nil, tenant.marker)
}

// sessions counts what dormouse sessions ls shows beside the running daemon.
func (g *gateway) sessions() int {
	g.t.Helper()
	out := g.cli("sessions", "ls", "--json").must(g.t)
	rows, err := jsonRows(out.stdout)
	if err != nil {
		g.t.Fatalf("sessions ls --json: %v in %.300q", err, out.stdout)
	}
	return len(rows)
}

// jsonRows reads an array of objects, or one object a line.
func jsonRows(text string) (rows []map[string]any, err error) {
	if err := json.Unmarshal([]byte(text), &rows); err == nil {
		return rows, nil
	}
	return jsonLines(text)
}
