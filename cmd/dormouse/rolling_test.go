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

// TestFleetRollingRestart: three replicas are restarted one after the other, in order, and no call of any client fails, of
// the Go SDK or the TypeScript SDK: with servers in the replicas' processes, with an upstream that they share, and with
// their embedded servers as the cluster.
func TestFleetRollingRestart(t *testing.T) {
	for name, c := range map[string]struct {
		servers int
		shared  bool
	}{
		"in process":       {3, false},
		"shared upstream":  {3, true},
		"embedded servers": {embedded, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, c.servers)
			f.fence = "30s" // nobody waits for it: all leave in order
			args := []string{"--drain-time", "2s"}
			if c.shared {
				args = append(args, "--upstream", newEcho(t))
			}
			f.addAll(3, args...)
			b := f.balance()
			var loads []*load
			if c.shared {
				loads = append(loads, startLoad(t, b.server.URL, 6, http.DefaultTransport, "echo", map[string]any{"text": "hello"}, "hello"))
			} else {
				loads = append(loads, startTenantLoad(t, b, 6), startTypeScriptLoad(t, b, 4))
			}
			f.eachInTurn(syscall.SIGTERM, func() {}, loads...)
			for _, l := range loads {
				for _, err := range l.report() {
					t.Error(err)
				}
			}
			epochs(t, f.replicas[0])
		})
	}
}

// eachInTurn ends one replica after the other with a signal, lets the others serve, does something, and starts it again.
func (f *fleet) eachInTurn(s syscall.Signal, meanwhile func(), loads ...*load) {
	f.t.Helper()
	serve := func() {
		for _, l := range loads {
			l.progress(f, 5)
		}
	}
	serve()
	for _, r := range f.replicas {
		r.end(s)
		meanwhile()
		serve()
		r.start()
		f.awaitReady(r)
		serve()
	}
}

// TestFleetKilled: with SIGKILL, only calls that were under way at the killed replica fail, with an error that says so,
// and every client goes on. Where the replicas' embedded servers are the cluster, one of those that are killed leads the
// stream: then calls wait until another one does, and so do new sessions.
func TestFleetKilled(t *testing.T) {
	for name, servers := range map[string]int{"NATS servers": 3, "embedded servers": embedded} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, servers)
			f.fence = "15s" // longer than an election: what is not the killed replica's goes on meanwhile
			f.addAll(3)
			b, acme := f.balance(), newTenant(t)
			l := startTenantLoad(t, b, 6)
			var sessions []string
			f.eachInTurn(syscall.SIGKILL, func() { sessions = append(sessions, f.opens(acme, b)) }, l)
			checkKilled(t, l)
			epochs(t, f.replicas[0])
			f.knows(acme, l, sessions)
			f.compare()
		})
	}
}

// opens opens a session through the balancer. While the stream has no leader that waits; who waited long enough is told to
// try again.
func (f *fleet) opens(acme tenant, b *balancer) (session string) {
	f.t.Helper()
	f.await("a new session", func() bool {
		status, text, h, err := acme.send(f.t.Context(), http.MethodPost, b.server.URL, "", initializeMessage)
		switch {
		case err == nil && status == http.StatusOK:
			session = h.Get("Mcp-Session-Id")
			return true
		case err != nil, status != http.StatusServiceUnavailable:
			f.t.Errorf("initialize during an election: %d %s %v", status, text, err)
		}
		return false
	})
	return session
}

// knows checks that every replica has all sessions: those of a load, and others.
func (f *fleet) knows(acme tenant, l *load, sessions []string) {
	f.t.Helper()
	for _, r := range f.replicas {
		for _, s := range sessions {
			acme.mustCall(f.t, r, s)
		}
	}
	f.await("all sessions", func() bool {
		for _, r := range f.replicas {
			if r.sessions() != len(l.count)+len(sessions) {
				return false
			}
		}
		return true
	})
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
// there is a leader, and nothing that was acknowledged is lost. (TestFleetKilled does that to embedded servers.)
func TestFleetStreamLosesItsLeader(t *testing.T) {
	f, acme := newFleet(t, 3), newTenant(t)
	f.fence = "5s"
	f.addAll(2)
	f.losesServers(t, acme, [][]int{{0}, {1}, {2}})
}

// TestFleetOfFive: with five NATS servers and as many copies of the streams, any two may be killed at once; one
// of those that are leads the stream.
func TestFleetOfFive(t *testing.T) {
	t.Parallel()
	f, acme := newFleet(t, 5), newTenant(t)
	f.addAll(2)
	f.losesServers(t, acme, [][]int{{0, 1}, {2, 3}, {4, 0}})
}

// losesServers kills servers of the stream, some at a time, under load.
func (f *fleet) losesServers(t *testing.T, acme tenant, rounds [][]int) {
	t.Helper()
	b := f.balance()
	l := startTenantLoad(t, b, 4)
	var sessions []string
	for _, down := range rounds {
		sessions = append(sessions, f.opens(acme, b))
		for _, i := range down {
			f.crash(i)
		}
		sessions = append(sessions, f.opens(acme, b))
		l.progress(f, 3)
		for _, i := range down {
			f.revive(i)
		}
		l.progress(f, 3)
	}
	for _, err := range l.report() {
		if !strings.Contains(err.Error(), "Service Unavailable") && !strings.Contains(err.Error(), "may or may not have been executed") {
			t.Error(err)
		} else {
			t.Log(err)
		}
	}
	f.knows(acme, l, sessions)
	f.compare()
}
