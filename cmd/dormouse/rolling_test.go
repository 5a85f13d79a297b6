//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

// load is real clients that call one after the other until it is ended.
type load struct {
	t     *testing.T
	stop  context.CancelFunc
	calls sync.WaitGroup

	mu     sync.Mutex
	count  []int // answers, by client
	failed []error
	took   []time.Duration
}

// startLoad connects Go SDK clients through the balancer and lets them call.
func startLoad(t *testing.T, endpoint string, clients int, connect http.RoundTripper, tool string, args map[string]any, want string) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{t: t, stop: stop, count: make([]int, clients)}
	for i := range clients {
		c, err := mcp.NewClient(&mcp.Implementation{Name: "rolling-test", Version: "1"}, nil).Connect(t.Context(),
			&mcp.StreamableClientTransport{Endpoint: endpoint, HTTPClient: &http.Client{Transport: connect}, MaxRetries: 20},
			&mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
		if err != nil {
			t.Fatal(err)
		}
		l.calls.Go(func() {
			for ctx.Err() == nil {
				if l.once(i, c, tool, args, want) != nil {
					<-time.After(50 * time.Millisecond)
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) once(i int, c *mcp.ClientSession, tool string, args map[string]any, want string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), hung)
	defer cancel()
	began := time.Now()
	res, err := c.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err == nil {
		err = wrong(res, want)
	}
	l.note(i, began, err)
	return err
}

// note takes down how a call ended.
func (l *load) note(i int, began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, time.Since(began))
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("client %d: %w", i, err))
		return
	}
	l.count[i]++
}

// wrong says what is wrong with an answer.
func wrong(res *mcp.CallToolResult, want string) error {
	var b strings.Builder
	for _, content := range res.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			b.WriteString(text.Text)
		}
	}
	if res.IsError || !strings.Contains(b.String(), want) {
		return errors.New(b.String())
	}
	return nil
}

// progress waits until every client has been answered n times more.
func (l *load) progress(f *fleet, n int) {
	l.t.Helper()
	l.mu.Lock()
	before := slices.Clone(l.count)
	l.mu.Unlock()
	defer func() {
		if l.t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Logf("answers %v, last failures %v", l.count, l.failed[max(0, len(l.failed)-5):])
		}
	}()
	f.await("answers to all clients", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i := range before {
			if l.count[i] < before[i]+n {
				return false
			}
		}
		return true
	})
}

func (l *load) end() {
	l.stop()
	l.calls.Wait()
}

// report ends the load, and returns what failed.
func (l *load) report() []error {
	l.t.Helper()
	l.end()
	answers := 0
	for _, n := range l.count {
		answers += n
	}
	slices.Sort(l.took)
	l.t.Logf("%d answers, %d failures; slowest %v, p99 %v, p50 %v", answers, len(l.failed), l.took[len(l.took)-1].Round(time.Millisecond),
		l.took[len(l.took)*99/100].Round(time.Millisecond), l.took[len(l.took)/2].Round(time.Millisecond))
	return l.failed
}

func startTenantLoad(t *testing.T, b *balancer, clients int) *load {
	t.Helper()
	acme := newTenant(t)
	return startLoad(t, b.server.URL, clients, tenantHeaders{acme.url, acme.key, acme.name},
		"n8n_list_workflows", map[string]any{}, n8ntest.MarkerTag(acme.name))
}

// TestFleetRollingRestart: three replicas on three NATS servers are restarted one after the other, in order, and no call of
// any client fails: with servers in the replicas' processes, and with an upstream that they share.
func TestFleetRollingRestart(t *testing.T) {
	for name, shared := range map[string]bool{"in process": false, "shared upstream": true} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 3)
			f.fence = "30s" // nobody waits for it: all leave in order
			args := []string{"--drain-time", "2s"}
			if shared {
				args = append(args, "--upstream", newEcho(t))
			}
			for range 3 {
				f.add(args...)
			}
			b := f.balance()
			var l *load
			if shared {
				l = startLoad(t, b.server.URL, 6, http.DefaultTransport, "echo", map[string]any{"text": "hello"}, "hello")
			} else {
				l = startTenantLoad(t, b, 6)
			}
			l.progress(f, 5)
			for _, r := range f.replicas {
				r.end(syscall.SIGTERM)
				l.progress(f, 5)
				r.start()
				f.awaitReady(r)
				l.progress(f, 5)
			}
			for _, err := range l.report() {
				t.Error(err)
			}
			epochs(t, f.replicas[0])
		})
	}
}

// TestFleetClusterRollingRestart: the same with the replicas' embedded servers as the cluster, then with SIGKILL.
func TestFleetClusterRollingRestart(t *testing.T) {
	f := newClusterFleet(t, "--drain-time", "2s")
	b := f.balance()
	l := startTenantLoad(t, b, 6)
	l.progress(f, 5)
	for _, r := range f.replicas {
		r.end(syscall.SIGTERM)
		l.progress(f, 5)
		r.start()
		f.awaitReady(r)
		l.progress(f, 5)
	}
	for _, err := range l.report() {
		t.Error(err)
	}
	epochs(t, f.replicas[0])
}

// TestFleetClusterKilled: kill -9 of each in turn loses no session.
func TestFleetClusterKilled(t *testing.T) {
	f := newClusterFleet(t)
	b := f.balance()
	l := startTenantLoad(t, b, 6)
	for _, r := range f.replicas {
		l.progress(f, 5)
		r.end(syscall.SIGKILL)
		l.progress(f, 5)
		r.start()
		f.awaitReady(r)
	}
	l.progress(f, 5)
	for _, err := range l.report() {
		// The killed replica may have led the stream: until another one does, nothing can be taken over.
		if !unknownOutcome(err) && !strings.Contains(err.Error(), "Service Unavailable") {
			t.Errorf("a client was told %v", err)
		}
	}
	epochs(t, f.replicas[0])
}

// TestFleetKilled: with SIGKILL, only calls that were under way at the killed replica fail, with an error that says so,
// and every client goes on.
func TestFleetKilled(t *testing.T) {
	f := newFleet(t, 3)
	f.fence = "5s"
	for range 3 {
		f.add()
	}
	b := f.balance()
	l := startTenantLoad(t, b, 6)
	for _, r := range f.replicas {
		l.progress(f, 5)
		r.end(syscall.SIGKILL)
		l.progress(f, 5)
		r.start()
		f.awaitReady(r)
	}
	l.progress(f, 5)
	checkKilled(t, l)
	epochs(t, f.replicas[0])
}

// unknownOutcome reports whether err says that a call was under way where a replica was killed.
func unknownOutcome(err error) bool {
	return strings.Contains(err.Error(), "may or may not have been executed") || strings.Contains(err.Error(), "Bad Gateway")
}

// checkKilled checks what clients were told when each replica was killed once.
func checkKilled(t *testing.T, l *load) {
	t.Helper()
	failed := l.report()
	if most := 3 * len(l.count); len(failed) > most {
		t.Errorf("%d calls failed, more than %d can have been under way at the killed replicas", len(failed), most)
	}
	for _, err := range failed {
		t.Log(err)
		if !unknownOutcome(err) {
			t.Errorf("a client was told %v", err)
		}
	}
}

// TestFleetStreamLosesItsLeader: one of three NATS servers is killed, each in turn: calls go on, sessions are made as soon as
// there is a leader, and nothing that was acknowledged is lost.
func TestFleetStreamLosesItsLeader(t *testing.T) {
	f, acme := newFleet(t, 3), newTenant(t)
	f.fence = "5s"
	for range 2 {
		f.add()
	}
	b := f.balance()
	l := startTenantLoad(t, b, 4)
	var sessions []string
	for _, n := range f.nats {
		n.end(syscall.SIGKILL)
		f.await("a new session", func() bool {
			status, text, h, err := acme.send(t.Context(), http.MethodPost, b.server.URL, "", initializeMessage)
			switch {
			case err == nil && status == http.StatusOK:
				sessions = append(sessions, h.Get("Mcp-Session-Id"))
				return true
			case err != nil, status != http.StatusServiceUnavailable:
				t.Errorf("initialize during an election: %d %s %v", status, text, err)
			}
			return false
		})
		n.start()
		f.await("NATS", func() bool {
			status, _ := fetchText(t.Context(), f.monitors[slices.Index(f.nats, n)]+"/healthz")
			return status == http.StatusOK
		})
		l.progress(f, 3)
	}
	for _, err := range l.report() {
		if !strings.Contains(err.Error(), "Service Unavailable") && !strings.Contains(err.Error(), "may or may not have been executed") {
			t.Error(err)
		} else {
			t.Log(err)
		}
	}
	for _, r := range f.replicas {
		for _, s := range sessions {
			acme.mustCall(t, r, s)
		}
	}
	f.await("all sessions", func() bool {
		x := map[int]bool{}
		for _, r := range f.replicas {
			x[r.sessions()] = true
		}
		return len(x) == 1 && x[len(l.count)+len(sessions)]
	})
}
