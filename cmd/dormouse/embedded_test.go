//go:build e2e

package main

import "testing"

// TestFleetEmbedded: what holds for replicas on NATS servers holds for those whose embedded servers are the cluster. Any of
// them serves any session, streams are the newest one's, a killed and a paused owner are taken over by one of two that
// claim at once, and one in the minority serves nothing. At the end all have folded the same.
func TestFleetEmbedded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fence string
		holds func(t *testing.T, f *fleet, acme tenant)
	}{
		"owners": {"60s", func(t *testing.T, f *fleet, acme tenant) {
			t.Helper()
			f.anyReplicaServes(t, acme)
			f.newestStreamWins(t, acme)
			f.ownerIsKilled(t, acme)
		}},
		"silence": {"5s", func(t *testing.T, f *fleet, acme tenant) {
			t.Helper()
			f.ownerIsPaused(t, acme)
			f.inMinority(t, acme, []*process{f.replicas[1].process, f.replicas[2].process})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, embedded)
			f.fence = c.fence
			f.addAll(3)
			c.holds(t, f, newTenant(t))
			f.compare()
		})
	}
}
