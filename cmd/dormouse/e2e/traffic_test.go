//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// callLimit is the timeout that every client sets: a call that reaches it has hung.
const callLimit = 2 * time.Minute

// traffic is clients that call a tool again and again until it is stopped.
type traffic struct {
	t    *testing.T
	tool string
	args any
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	strict bool // no call may fail at all; read by report

	mu      sync.Mutex // guards what follows
	ok      int
	failed  map[string]int // by what the client was told, digits masked
	faults  []string       // what must not happen
	slowest time.Duration
	since   map[string]int // calls that each client got answered since the last mark
}

var errStopped = errors.New("traffic stopped")

// startTraffic lets every client call the tool; each answer must contain the client's want.
func startTraffic(t *testing.T, sessions map[*client]string, tool string, args any) *traffic {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	tr := &traffic{t: t, tool: tool, args: args, stop: stop, failed: map[string]int{}, since: map[string]int{}}
	for c, want := range sessions {
		tr.wg.Go(func() { tr.loop(ctx, c, want) })
	}
	t.Cleanup(func() { tr.end() })
	return tr
}

// end stops the clients and waits for the calls that are under way.
func (tr *traffic) end() {
	tr.stop(errStopped)
	tr.wg.Wait()
}

func (tr *traffic) loop(ctx context.Context, c *client, want string) {
	for ctx.Err() == nil {
		began := time.Now()
		// A call that is under way at the end is waited for: it must be settled like all others.
		got, err := c.call(context.WithoutCancel(ctx), callLimit, tr.tool, tr.args)
		tr.judge(c, want, got, err, time.Since(began))
		rest := 20 * time.Millisecond
		if err != nil {
			rest = 100 * time.Millisecond
		}
		pause(ctx, rest)
	}
}

func (tr *traffic) judge(c *client, want, got string, err error, took time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.slowest = max(tr.slowest, took)
	var thrown *clientError
	switch {
	case err == nil && strings.Contains(got, want):
		tr.ok++
		tr.since[c.name]++
	case err == nil:
		tr.fault("%s got an answer without its marker %q: %.300q", c.name, want, got)
	case errors.As(err, &thrown) && thrown.timedOut():
		tr.fault("%s hung: %v", c.name, err)
	case errors.As(err, &thrown) && lost(thrown):
		tr.fault("%s lost its session: %v", c.name, err)
	case errors.As(err, &thrown):
		tr.failed[mask(thrown.Error())]++
	default:
		tr.fault("%s: %v", c.name, err)
	}
}

// lost reports whether the error tells the client that its session is gone: TypeScript clients never recover.
func lost(e *clientError) bool {
	return string(e.Code) == "404" || string(e.Code) == "400"
}

func (tr *traffic) fault(format string, args ...any) {
	if len(tr.faults) < 50 {
		tr.faults = append(tr.faults, fmt.Sprintf(format, args...))
	}
}

func mask(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, s)
	for strings.Contains(s, "##") {
		s = strings.ReplaceAll(s, "##", "#")
	}
	return s
}

// mark begins a new count of each client's answers.
func (tr *traffic) mark() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	clear(tr.since)
}

// waitAll waits until every client was answered at least n times since the mark.
func (tr *traffic) waitAll(limit time.Duration, clients, n int) {
	tr.t.Helper()
	eventually(tr.t, limit, fmt.Sprintf("%d answers to each of %d clients", n, clients), func(context.Context) error {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		served := 0
		for _, count := range tr.since {
			if count >= n {
				served++
			}
		}
		if served < clients {
			return fmt.Errorf("%d of %d clients served; told so far: %v; faults: %v", served, clients, tr.failed, tr.faults)
		}
		return nil
	})
}

// report ends the traffic, logs what came of it and fails the test for every fault.
func (tr *traffic) report() {
	tr.t.Helper()
	tr.end()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.strict {
		for text, n := range tr.failed {
			tr.fault("%d calls failed with: %s", n, text)
		}
	}
	failed := 0
	for text, n := range tr.failed {
		failed += n
		tr.t.Logf("%5d calls failed with: %s", n, text)
	}
	tr.t.Logf("%d calls answered, %d failed with a clear error, slowest %v", tr.ok, failed, tr.slowest.Round(time.Millisecond))
	for _, f := range tr.faults {
		tr.t.Error(f)
	}
}

// noneFailed makes every call that fails a fault: the clients are to notice nothing but a delay.
func (tr *traffic) noneFailed() { tr.strict = true }
