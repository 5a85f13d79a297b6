//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// crashes is a run of the suite with crashes in the middle of its scenarios.
type crashes struct {
	name    string
	doc     string                       // the server's name in docs/conformance.md
	server  func(t *testing.T) *upstream // nil: the built-in one
	version string                       // of the protocol
	every   int                          // requests from one crash to the next
	turns   []casualties                 // of the crashes, twice each: in a request and in an answer
}

// casualties are killed in a crash.
type casualties struct{ gateway, upstream bool }

func (c casualties) String() string {
	switch {
	case c.gateway && c.upstream:
		return "both"
	case c.upstream:
		return "the server"
	}
	return "the gateway"
}

func crashRuns() []crashes {
	goServer := func(args ...string) func(t *testing.T) *upstream {
		return func(t *testing.T) *upstream {
			t.Helper()
			return startGoEverything(t, args...)
		}
	}
	all := []casualties{{gateway: true}, {upstream: true}, {gateway: true, upstream: true}}
	return []crashes{
		{"server-everything", docEverything, startEverything, "2025-11-25", 11, all},
		{"go", docGo, goServer("-stateless=false"), "2025-11-25", 7, all},
		{"go, more often", docGo, goServer("-stateless=false"), "2025-11-25", 4, all},
		{"go, 2025-06-18", docGo, goServer("-stateless=false"), "2025-06-18", 5, all},
		{"go, stateless", docStateless, goServer("-stateless=true"), "2026-07-28", 5, all},
		{"built-in", docBuiltIn, nil, "2025-11-25", 5, []casualties{{gateway: true}}},
	}
}

// TestConformanceThroughCrashes kills the gateway, then its upstream, then both, over and over in the middle of the
// suite's scenarios. Requests that were in flight then break or get the gateway's error for that; no other one does. A
// scenario without such a request comes out as it does without crashes. No session is lost.
func TestConformanceThroughCrashes(t *testing.T) {
	buildGoEverything(t)
	for _, c := range crashRuns() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

func (c crashes) run(t *testing.T) {
	p := pass{release02, c.version}
	want := c.calm(t, p)
	up, g, s, d := c.start(t)
	for range 10 { // these are there all the time
		rawSession(t, d.URL+"/mcp", nil)
	}
	s.crashEvery(c.every)
	at := new(progress)
	d.watch(at.running)
	got, strikes, struck := crashing(t, p, d, s, at, func(k *strike) {
		dead := c.turns[k.number/2%len(c.turns)]
		if dead.upstream {
			up.kill()
		}
		if dead.gateway {
			release := d.hold()
			defer release()
			g.kill()
			g.start()
		}
		if dead.upstream {
			up.start()
		}
	})
	if len(strikes) < 2*len(c.turns) {
		t.Errorf("only %d crashes", len(strikes))
	}
	d.watch(nil)
	hit := compareCrashed(t, want, got, struck, d.casualties())
	t.Logf("%d scenarios, %d crashes: %v; scenarios that came out otherwise, as they had a request in flight: %v", len(got), len(strikes), strikes, hit)
	d.allAnswer(t, 10)
	g.checkLog()
}

// calm runs the suite through a gateway without crashes.
func (c crashes) calm(t *testing.T, p pass) results {
	t.Helper()
	var args []string
	if c.server != nil {
		args = []string{"--upstream", c.server(t).url()}
	}
	found, err := conform(t.Context(), t.TempDir(), startGateway(t, args...).url(), p, new(progress))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// start builds the chain: doorkeeper, gateway, saboteur, upstream; or doorkeeper, saboteur, gateway for the built-in
// server, which nobody can stand in front of.
func (c crashes) start(t *testing.T) (up *upstream, g *gateway, s *saboteur, d *doorkeeper) {
	t.Helper()
	if c.server == nil {
		g = startGateway(t)
		s = startSaboteur(t, g.listen)
		return nil, g, s, startDoorkeeper(t, s.URL)
	}
	up = c.server(t)
	s = startSaboteur(t, fmt.Sprintf("127.0.0.1:%d", up.port))
	g = startGateway(t, "--upstream", s.URL+"/mcp")
	return up, g, s, startDoorkeeper(t, "http://"+g.listen)
}

// crashing runs the suite through the doorkeeper and lets it crash where the saboteur wants it. It returns what was
// struck, and the scenarios in which that was.
func crashing(t *testing.T, p pass, d *doorkeeper, s *saboteur, at *progress, crash func(*strike)) (got results, strikes []*strike, struck []string) {
	t.Helper()
	defer s.stop()
	dir, ended := t.TempDir(), make(chan error, 1)
	go func() {
		var err error
		got, err = conform(t.Context(), dir, d.URL+"/mcp", p, at)
		ended <- err
	}()
	for {
		select {
		case k := <-s.strikes:
			strikes = append(strikes, k)
			before := len(at.scenarios())
			crash(k)
			struck = append(struck, at.scenarios()[max(0, before-1):]...) // what was struck may be a scenario's last request
			close(k.done)
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			return got, strikes, struck
		}
	}
}

// compareCrashed compares the checks with those of a run without crashes, and returns the scenarios that came out
// otherwise because a request of theirs was in flight. Any other difference fails the test, and so does a request that
// broke in a scenario without a crash.
func compareCrashed(t *testing.T, want, got results, struck []string, inFlight []casualty) (hit []string) {
	t.Helper()
	settled := map[string]bool{}
	for _, c := range inFlight {
		settled[c.scenario] = true
		if !slices.Contains(struck, c.scenario) {
			t.Errorf("%s: there was no crash, and yet: %s; crashes were in %v", c.scenario, c.what, struck)
		}
	}
	for scenario, checks := range want {
		all := compare(results{scenario: checks}, results{scenario: got[scenario]})
		if len(all) > 0 && settled[scenario] {
			hit = append(hit, scenario)
			continue
		}
		for _, d := range all {
			t.Errorf("%v; crashes were in %v; casualties: %v\n\t%v", d, struck, inFlight, got[scenario])
		}
	}
	slices.Sort(hit)
	return hit
}

// allAnswer calls every session that was opened and not deleted. There must be so many at least.
func (d *doorkeeper) allAnswer(t *testing.T, least int) {
	t.Helper()
	d.mu.Lock()
	sessions := maps.Clone(d.sessions)
	d.mu.Unlock()
	for id, version := range sessions {
		headers := map[string]string{"Mcp-Session-Id": id}
		if version != "" {
			headers["Mcp-Protocol-Version"] = version
		}
		if r := post(t, d.URL+"/mcp", headers, toolsList); r.status != http.StatusOK || !strings.Contains(r.body, `"result"`) {
			t.Errorf("a session is lost: %v", r)
		}
	}
	if len(sessions) < least {
		t.Errorf("%d sessions are known, want %d at least", len(sessions), least)
	}
	t.Logf("%d sessions answer", len(sessions))
}
