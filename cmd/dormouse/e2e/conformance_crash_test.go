//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// inFlight is what the suite says of a request that was under way at a crash: that its connection broke, or the
// gateway's JSON-RPC error.
func inFlight() *regexp.Regexp {
	return regexp.MustCompile(`fetch failed|terminated|socket hang up|ECONNRESET|other side closed|aborted|may or may not have been executed`)
}

// TestConformanceThroughCrashes kills the gateway, its upstream, or both in the middle of the suite's scenarios. A
// scenario comes out as it does otherwise, or fails with the error for what was in flight. No session is lost.
func TestConformanceThroughCrashes(t *testing.T) {
	p := pass{release02, "2025-11-25"}
	const server = "-stateless=false"
	want, err := conform(t.Context(), t.TempDir(), startGateway(t, "--upstream", startGoEverything(t, server).url()).url(), p, new(progress))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name              string
		every             int // requests of the gateway's there is one crash
		gateway, upstream bool
	}{
		{"gateway", 7, true, false},
		{"upstream", 13, false, true},
		{"both", 11, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := startGoEverything(t, server)
			s := startSaboteur(t, fmt.Sprintf("http://127.0.0.1:%d", up.port))
			g := startGateway(t, "--upstream", s.URL+"/mcp")
			d := startDoorkeeper(t, "http://"+g.listen)
			for range 10 { // these are there all the time
				rawSession(t, d.URL+"/mcp", nil)
			}
			s.crashEvery(c.every)
			got, strikes, struck := crashing(t, p, d, s, func() {
				if c.upstream {
					up.kill()
				}
				if c.gateway {
					release := d.hold()
					defer release()
					g.kill()
					g.start()
				}
				if c.upstream {
					up.start()
				}
			})
			s.crashEvery(0)
			if len(strikes) < 5 {
				t.Errorf("only %d crashes", len(strikes))
			}
			hit := failedInFlight(t, want, got, struck)
			t.Logf("%d scenarios, %d crashes at %v; failed with the error for what was in flight: %v", len(got), len(strikes), strikes, hit)
			d.allAnswer(t, 10)
			g.checkLog()
		})
	}
}

// crashing runs the suite through the doorkeeper and lets it crash where the saboteur wants it. It returns the requests
// and the scenarios in which that was.
func crashing(t *testing.T, p pass, d *doorkeeper, s *saboteur, crash func()) (got results, strikes, struck []string) {
	t.Helper()
	dir, ended, at := t.TempDir(), make(chan error, 1), new(progress)
	go func() {
		var err error
		got, err = conform(t.Context(), dir, d.URL+"/mcp", p, at)
		ended <- err
	}()
	for {
		select {
		case k := <-s.strikes:
			strikes = append(strikes, fmt.Sprintf("%d %s", k.number, k.method))
			before := len(at.scenarios())
			crash()
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

// failedInFlight compares the checks with those of a run without crashes, and returns the scenarios that failed with the
// error for what was in flight. Any other difference fails the test. One scenario does not read what it gets where that
// is JSON and no stream: what the gateway then says of the request that broke is noted as a type of content.
func failedInFlight(t *testing.T, want, got results, struck []string) (hit []string) {
	t.Helper()
	for scenario, checks := range want {
		all := compare(results{scenario: checks}, results{scenario: got[scenario]})
		if len(all) > 0 && slices.Contains(struck, scenario) && slices.ContainsFunc(got[scenario], func(c check) bool {
			return c.Status != "SUCCESS" && inFlight().MatchString(c.Error) || c.ID == "server-sse-content-type"
		}) {
			hit = append(hit, scenario)
			continue
		}
		for _, d := range all {
			t.Errorf("%v; crashes were in %v\n\t%v", d, struck, got[scenario])
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
