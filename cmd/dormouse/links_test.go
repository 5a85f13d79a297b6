//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// links are the ways between the NATS servers of a fleet, each through a faulty proxy: which server dials, and whom.
type links [3][3]*faulty

// newLinkedFleet starts three NATS servers that reach one another through proxies alone.
func newLinkedFleet(t *testing.T) (*fleet, *links) {
	t.Helper()
	l := &links{}
	f := newRoutedFleet(t, 3, func(from int, routes []string) string {
		var ways []string
		for to, url := range routes {
			if to != from {
				l[from][to] = newFaulty(t, strings.TrimPrefix(url, "nats://"))
				ways = append(ways, "nats://"+l[from][to].addr())
			}
		}
		// What a server gossips about its address leads nowhere: the others would go there past the proxies.
		return fmt.Sprintf("advertise: %q, routes: [%s]", "127.0.0.1:1", strings.Join(ways, ", "))
	})
	return f, l
}

// of stops, or lets pass, what a server sends to the others, and what it hears of them.
func (l *links) of(server int, sends, hears bool) {
	for other := range 3 {
		if other == server {
			continue
		}
		l[server][other].up.set(sends)
		l[other][server].down.set(sends)
		l[server][other].down.set(hears)
		l[other][server].up.set(hears)
	}
}

// awaitElection is await with the patience that several elections in a row want on a busy machine: a server that is not
// heard, or hears nothing, calls for them again and again.
func (f *fleet) awaitElection(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !ok(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within four minutes", what)
		}
	}
}

// leader returns which server leads the stream of batches.
func (f *fleet) leader() (server int) {
	f.t.Helper()
	server = -1
	f.await("a leader", func() bool {
		_, text := fetchText(f.t.Context(), f.monitors[0]+"/jsz?accounts=true&streams=true")
		var x struct {
			Accounts []struct {
				Streams []struct {
					Name    string
					Cluster struct{ Leader string }
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if json.Unmarshal([]byte(text), &x) != nil {
			return false
		}
		for _, a := range x.Accounts {
			for _, s := range a.Streams {
				if _, err := fmt.Sscanf(s.Cluster.Leader, "n%d", &server); err == nil && s.Name == "DORMOUSE_BATCHES" {
					return true
				}
			}
		}
		return false
	})
	return server
}

// TestFleetLinks: the stream's leader is cut off from the other two NATS servers, both ways or one way, while its replica
// stays connected to it. That replica serves neither what lives in its process nor takes sessions for unknown; the others
// elect a leader and take its sessions over. When the links are whole again, all have the same state with all that was
// acknowledged, and the former owner forwards.
func TestFleetLinks(t *testing.T) {
	t.Parallel()
	f, l := newLinkedFleet(t)
	f.fence = "3s"
	acme := newTenant(t)
	for url := range strings.SplitSeq(f.url, ",") {
		f.add("--nats-url", url)
	}
	var kept []string // sessions that were acknowledged
	for _, c := range []struct {
		name         string
		sends, hears bool
	}{{name: "both ways"}, {name: "it is not heard", hears: true}, {name: "it hears nothing", sends: true}} {
		at := f.leader()
		a, b := f.replicas[at], f.replicas[(at+1)%3]
		began := time.Now()
		var mine []string
		for range 3 {
			mine = append(mine, acme.open(t, a))
		}
		l.of(at, c.sends, c.hears)
		f.awaitElection("it is cut off", func() bool { x := a.readiness(); return x.Replica != nil && x.Replica.CutOff })
		f.awaitElection("the others take over", func() bool { return acme.call(t.Context(), b, mine[0]) == nil })
		for i := range f.replicas {
			if i != at {
				acme.mustCall(t, f.replicas[i], mine[1])
			}
		}
		f.awaitElection("the others open sessions", func() bool {
			status, _, h, err := acme.send(t.Context(), http.MethodPost, b.url(), "", initializeMessage)
			if err == nil && status == http.StatusOK {
				kept = append(kept, h.Get("Mcp-Session-Id"))
			}
			return len(kept)%4 == 1
		})
		refuses(t, acme, a, mine[2])
		l.of(at, true, true)
		whole := time.Now()
		f.awaitReady(a)
		t.Logf("%s: cut for %v, whole again after %v more", c.name, whole.Sub(began).Round(time.Millisecond), time.Since(whole).Round(time.Millisecond))
		kept = append(kept, mine...)
		for _, s := range kept {
			acme.mustCall(t, a, s)
		}
	}
	(&world{t: t, fleet: f}).compare() // and no epoch was claimed twice
	moved := 0
	for _, epoch := range epochs(t, f.replicas[0]) {
		if epoch > 1 {
			moved++
		}
	}
	if moved < 6 {
		t.Errorf("%d sessions were taken over, want 6 at least", moved)
	}
	for _, r := range f.replicas {
		for _, s := range kept {
			acme.mustCall(t, r, s)
		}
	}
}

// refuses checks that a replica neither serves a session that is still its own nor says that there is no other one.
func refuses(t *testing.T, acme tenant, r *replica, session string) {
	t.Helper()
	var calls sync.WaitGroup
	for _, id := range []string{session, "a-session-that-may-be-known-elsewhere"} {
		calls.Go(func() {
			status, text, h, err := acme.send(t.Context(), http.MethodPost, r.url(), id, callMessage())
			if err != nil || status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
				t.Errorf("%s, which is cut off: %d %s %v, want 503", r.name, status, text, err)
			}
		})
	}
	calls.Wait()
}

// TestFleetElsewhere: a replica whose NATS server is cut off from a majority goes to another one by itself.
func TestFleetElsewhere(t *testing.T) {
	t.Parallel()
	f, l := newLinkedFleet(t)
	f.fence = "3s"
	acme := newTenant(t)
	r := f.add()
	session := acme.open(t, r)
	at := f.serverOf()
	l.of(at, false, false)
	f.awaitElection("it goes to another server", func() bool { now := f.serverOf(); return now >= 0 && now != at })
	f.awaitElection("it serves", func() bool { return acme.call(t.Context(), r, session) == nil })
}

// serverOf returns the NATS server to which the only replica is connected; -1 while it is to none.
func (f *fleet) serverOf() int {
	for i, m := range f.monitors {
		if _, text := fetchText(f.t.Context(), m+"/connz"); strings.Contains(text, `"dormouse`) {
			return i
		}
	}
	return -1
}
