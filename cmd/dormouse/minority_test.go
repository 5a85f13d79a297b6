//go:build e2e

package main

import (
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestFleetMinority: a replica whose NATS server is cut off from the others, all of which stand still here, neither serves
// what lives in its process nor takes sessions for unknown, for as long as that lasts, although its server goes on
// answering. Afterwards it goes on.
func TestFleetMinority(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.fence = "5s"
	f.addAll(1)
	f.inMinority(t, newTenant(t), f.nats[1:])
}

// inMinority lets those that a replica's server needs for a majority stand still.
func (f *fleet) inMinority(t *testing.T, acme tenant, others []*process) {
	t.Helper()
	r := f.replicas[0]
	session := acme.open(t, r)
	acme.mustCall(t, r, session)
	for _, n := range others {
		n.signal(syscall.SIGSTOP)
	}
	f.await("it is cut off", func() bool { x := r.readiness(); return x.Replica != nil && x.Replica.CutOff })
	// A server without a leader begins to answer by itself after some seconds, a deposed leader stops after more.
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); <-time.After(250 * time.Millisecond) {
		if x := r.readiness(); !x.Replica.CutOff {
			t.Fatal("it is no longer cut off")
		}
	}
	var calls sync.WaitGroup
	for _, id := range []string{session, "a-session-that-may-be-known-elsewhere"} {
		calls.Go(func() { // it waits for better times first
			if status, text, _, err := acme.send(t.Context(), http.MethodPost, r.url(), id, callMessage()); err != nil || status != http.StatusServiceUnavailable {
				t.Errorf("%d %s %v, want 503", status, text, err)
			}
		})
	}
	calls.Wait()
	began := time.Now()
	for _, n := range others {
		n.signal(syscall.SIGCONT)
	}
	f.awaitReady(r)
	f.await("it serves again", func() bool { return acme.call(t.Context(), r, session) == nil })
	t.Logf("serves again %v after its servers went on", time.Since(began).Round(time.Millisecond))
}
