package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
	"github.com/dormouse-mcp/dormouse/journal"
)

// callMessage is a tool call with an ID of its own.
func callMessage() string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":"n8n_list_workflows","arguments":{}}}`, rand.Text())
}

// tenant is a stand-in n8n with one user.
type tenant struct{ url, key, name string }

func newTenant(t *testing.T) tenant {
	t.Helper()
	n := n8ntest.New(n8ntest.Tenant{Name: "acme", Key: "key-of-acme-0001"})
	if err := n.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return tenant{n.URL(), "key-of-acme-0001", "acme"}
}

// send sends one request to a replica.
func (a tenant) send(ctx context.Context, method, url, session, body string) (status int, text string, h http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, hung)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	res, err := tenantHeaders{a.url, a.key, a.name}.RoundTrip(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, string(data), res.Header, err
}

// open opens a session on a replica.
func (a tenant) open(t *testing.T, r *replica) (session string) {
	t.Helper()
	status, text, h, err := a.send(t.Context(), http.MethodPost, r.url(), "", initializeMessage)
	if err != nil || status != http.StatusOK {
		t.Fatalf("initialize on %s: %d %s %v", r.name, status, text, err)
	}
	return h.Get("Mcp-Session-Id")
}

// call calls a tool of a session on a replica; an error says what was wrong with the answer.
func (a tenant) call(ctx context.Context, r *replica, session string) error {
	status, text, _, err := a.send(ctx, http.MethodPost, r.url(), session, callMessage())
	if err == nil && (status != http.StatusOK || !strings.Contains(text, n8ntest.MarkerTag(a.name))) {
		err = fmt.Errorf("%d %s", status, text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	return nil
}

func (a tenant) mustCall(t *testing.T, r *replica, session string) {
	t.Helper()
	if err := a.call(t.Context(), r, session); err != nil {
		t.Fatal(err)
	}
}

// epochsOf returns the epochs of some sessions, and checks all as epochs does.
func epochsOf(t *testing.T, r *replica, sessions ...string) (list []uint64) {
	t.Helper()
	all := epochs(t, r)
	for _, s := range sessions {
		list = append(list, all[journal.SessionID(s).Ref().String()])
	}
	return list
}

// epochs checks that the journal has at most one accepted claim of each session's epoch, and returns the sessions'.
func epochs(t *testing.T, r *replica) map[string]uint64 {
	t.Helper()
	c, err := control.Connect(t.Context(), r.data)
	if err != nil {
		t.Fatal(err)
	}
	claimed := map[string]bool{}
	newest := map[string]uint64{}
	_, err = c.Log(t.Context(), control.LogQuery{Verdicts: true}, func(e control.Event) error {
		if e.Kind != "bound" || e.Refused != "" || e.Bound.Upstream {
			return nil
		}
		key := fmt.Sprint(e.Ref, " ", e.Epoch)
		if claimed[key] {
			t.Errorf("epoch %d of %s was claimed twice", e.Epoch, e.Ref)
		}
		claimed[key] = true
		newest[e.Ref] = max(newest[e.Ref], e.Epoch)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return newest
}

// TestAnyReplicaServes: sessions whose servers live in one process are served on every replica, from the very next
// request on.
func TestAnyReplicaServes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.addAll(2)
	f.anyReplicaServes(t, newTenant(t))
	stranger := "https://" + f.replicas[0].peer() + "/mcp"
	if status, text, _, _ := newTenant(t).send(t.Context(), http.MethodPost, stranger, "a-session", callMessage()); status != 0 {
		t.Errorf("a stranger was let in by the listener for replicas: %d %s", status, text)
	}
}

func (f *fleet) anyReplicaServes(t *testing.T, acme tenant) {
	t.Helper()
	a, b := f.replicas[0], f.replicas[1]
	var sessions []string
	for i := range 30 {
		on, other := f.replicas[i%2], f.replicas[1-i%2]
		s := acme.open(t, on)
		acme.mustCall(t, other, s)
		acme.mustCall(t, on, s)
		sessions = append(sessions, s)
	}
	for _, epoch := range epochsOf(t, a, sessions...) {
		if epoch != 1 {
			t.Errorf("a session is at epoch %d: it was moved instead of forwarded to", epoch)
		}
	}
	if status, text, _, err := acme.send(t.Context(), http.MethodDelete, b.url(), sessions[0], ""); status != http.StatusNoContent {
		t.Errorf("DELETE on the other replica: %d %s %v", status, text, err)
	}
	for _, r := range f.replicas {
		f.await("404", func() bool {
			status, _, _, _ := acme.send(t.Context(), http.MethodPost, r.url(), sessions[0], callMessage())
			return status == http.StatusNotFound
		})
	}
	f.await("it tells of the other one and of its lag", func() bool {
		x := b.readiness()
		return x.Replica != nil && x.Replica.Others == len(f.replicas)-1 && x.Replica.Lag.Seconds < 30
	})
}

// TestOwnerIsKilled: when a replica dies, the others serve its sessions; whoever was first, and only one of them.
func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	f.addAll(3)
	f.ownerIsKilled(t, newTenant(t))
}

func (f *fleet) ownerIsKilled(t *testing.T, acme tenant) {
	t.Helper()
	a, b, c := f.replicas[0], f.replicas[1], f.replicas[2]
	var sessions []string
	for range 10 {
		sessions = append(sessions, acme.open(t, a))
	}
	a.end(syscall.SIGKILL)
	began := time.Now()
	var calls sync.WaitGroup
	for _, s := range sessions {
		for _, r := range []*replica{b, c} {
			calls.Go(func() {
				if err := acme.call(t.Context(), r, s); err != nil {
					t.Error(err)
				}
			})
		}
	}
	calls.Wait()
	t.Logf("all answered %v after the kill", time.Since(began).Round(time.Millisecond))
	for i, epoch := range epochsOf(t, b, sessions...) {
		if epoch != 2 {
			t.Errorf("session %d is at epoch %d: claimed more than once", i, epoch)
		}
	}
	a.start()
	f.awaitReady(a)
	for _, s := range sessions {
		acme.mustCall(t, a, s)
	}
	for i, epoch := range epochsOf(t, a, sessions...) {
		if epoch != 2 {
			t.Errorf("session %d is at epoch %d after its former owner came back", i, epoch)
		}
	}
}

// TestOwnerIsPaused: an owner that stands still is taken over. When it goes on it sees that, serves nothing of its own any
// more, and nothing that it appends for the session counts.
func TestOwnerIsPaused(t *testing.T) {
	t.Parallel()
	f, acme := newFleet(t, 1), newTenant(t)
	f.fence = "5s"
	f.addAll(2)
	f.ownerIsPaused(t, acme)
}

func (f *fleet) ownerIsPaused(t *testing.T, acme tenant) {
	t.Helper()
	a, b := f.replicas[0], f.replicas[1]
	s := acme.open(t, a)
	acme.mustCall(t, b, s)
	a.signal(syscall.SIGSTOP)
	began := time.Now()
	// While nobody knows whether it was executed there: an error that says so, or an answer.
	status, text, _, err := acme.send(t.Context(), http.MethodPost, b.url(), s, callMessage())
	if err != nil || status != http.StatusOK {
		t.Errorf("the call that was forwarded to a paused replica: %d %s %v", status, text, err)
	}
	acme.mustCall(t, b, s)
	t.Logf("taken over %v after the pause began", time.Since(began).Round(time.Millisecond))
	a.signal(syscall.SIGCONT)
	for range 10 {
		acme.mustCall(t, a, s) // by b, to which a forwards
	}
	for _, epoch := range epochsOf(t, b, s) {
		if epoch < 2 {
			t.Errorf("the session is at epoch %d: nobody took it over", epoch)
		}
	}
	f.await("it serves again", func() bool { x := a.readiness(); return x.State == "ready" && !x.Replica.CutOff })
}

// TestReplicaLeaves: a replica that is asked to stop hands over at once.
func TestReplicaLeaves(t *testing.T) {
	t.Parallel()
	f, acme := newFleet(t, 1), newTenant(t)
	a, b := f.add(), f.add()
	s := acme.open(t, a)
	a.end(syscall.SIGTERM)
	began := time.Now()
	acme.mustCall(t, b, s)
	t.Logf("taken over in %v", time.Since(began).Round(time.Millisecond))
	if epoch := epochs(t, b); len(epoch) != 1 {
		t.Errorf("%v", epoch)
	}
}
