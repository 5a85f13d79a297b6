//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestN8NMCPKilledUnderThirtyTwoSessions: n8n-mcp is killed and started again behind the gateway, with its
// default rate limits. Its clients notice nothing but a delay.
func TestN8NMCPKilledUnderThirtyTwoSessions(t *testing.T) {
	const tenants, perTenant = 8, 4
	up := startN8NMCP(t)
	g := startGateway(t, "--upstream", up.url())
	ts := startClients(t)
	sessions := map[*client]string{}
	n8n := startN8N(t)
	for i := range tenants {
		tenant := addTenant(n8n, fmt.Sprintf("n8n-mcp-%02d", i))
		headers := tenant.with("authorization", "Bearer "+upstreamToken)
		for j := range perTenant {
			c := ts.connect(fmt.Sprintf("%s-%d", tenant.id, j), g.url(), headers)
			c.mustHave(listWorkflows)
			sessions[c] = tenant.marker
		}
	}
	tr := startTraffic(t, sessions, listWorkflows, nil)
	for range 3 {
		tr.mark()
		tr.waitAll(hung, len(sessions), 2)
		up.kill()
		up.start()
	}
	tr.mark()
	tr.waitAll(hung, len(sessions), 3)
	tr.noneFailed()
	tr.report()
	g.checkLog()
}

// TestEverythingKilledAloneAndWithTheGateway: server-everything, which says 400 where others say 404, is killed
// and started again; then the gateway and the server are killed at once.
func TestEverythingKilledAloneAndWithTheGateway(t *testing.T) {
	up := startEverything(t)
	g := startGateway(t, "--upstream", up.url())
	ts := startClients(t)
	sessions := map[*client]string{}
	for i := range 12 {
		tenant := newTenant(t, fmt.Sprintf("everything-%02d", i%4))
		c := ts.connect(fmt.Sprintf("everything-%d", i), g.url(), tenant.headers())
		c.mustHave("echo")
		sessions[c] = "Echo: are you there"
	}
	var tr *traffic
	served := func(n int) {
		tr.mark()
		tr.waitAll(hung, len(sessions), n)
	}
	tr = startTraffic(t, sessions, "echo", map[string]string{"message": "are you there"})
	for range 3 {
		served(2)
		up.kill()
		up.start()
	}
	served(2)
	tr.noneFailed()
	tr.report()
	tr = startTraffic(t, sessions, "echo", map[string]string{"message": "are you there"})
	for range 3 {
		served(2)
		up.kill()
		g.kill()
		g.launch()
		up.start()
		g.waitReady()
	}
	served(3)
	tr.report()
	if n := g.sessions(); n != len(sessions) {
		t.Errorf("dormouse sessions ls shows %d sessions, want %d", n, len(sessions))
	}
	g.checkLog()
}

// TestIdleClientsGoOnAfterBothDied is the story of the main job for clients that were idle meanwhile: the
// gateway dies, then the server behind it, then both; the same client objects call again and get answers.
func TestIdleClientsGoOnAfterBothDied(t *testing.T) {
	up := startEverything(t)
	g := startGateway(t, "--upstream", up.url())
	ts := startClients(t)
	tenant := newTenant(t, "idle")
	var all []*client
	for i := range 5 {
		all = append(all, ts.connect(fmt.Sprintf("idle-%d", i), g.url(), tenant.headers()))
	}
	ask := func(step string) {
		t.Helper()
		for _, c := range all {
			c.mustCall(callLimit, "echo", map[string]string{"message": step}, "Echo: "+step)
		}
	}
	ask("first")
	g.kill()
	g.start()
	ask("after the gateway")
	up.kill()
	up.start()
	ask("after the server")
	up.kill()
	g.kill()
	up.start()
	g.start()
	ask("after both")
}

// TestCallWaitsForTheUpstream: a call that comes while the upstream is down is answered once it is back.
func TestCallWaitsForTheUpstream(t *testing.T) {
	up := startEverything(t)
	g := startGateway(t, "--upstream", up.url())
	c := startClients(t).connect("waits", g.url(), newTenant(t, "waits").headers())
	c.mustCall(callLimit, "echo", map[string]string{"message": "a"}, "Echo: a")
	up.kill()
	answered := make(chan error, 1)
	go func() {
		_, err := c.call(context.WithoutCancel(t.Context()), callLimit, "echo", map[string]string{"message": "b"})
		answered <- err
	}()
	if !pause(t.Context(), time.Second) {
		return
	}
	up.start()
	if err := <-answered; err != nil {
		t.Errorf("a call made while the upstream was down: %v", err)
	}
}
