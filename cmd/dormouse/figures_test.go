//go:build e2e

package main

import (
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// TestFigures measures what docs/benchmarks.md says of replicas. It takes minutes, and runs only when it is asked for:
//
//	DORMOUSE_FIGURES=1 go test -tags e2e -count=1 -run TestFigures -v ./cmd/dormouse
func TestFigures(t *testing.T) {
	if os.Getenv("DORMOUSE_FIGURES") == "" {
		t.Skip("DORMOUSE_FIGURES is not set")
	}
	t.Run("take-over", takeOver)
	t.Run("forwarding", forwarding)
	t.Run("append", appendReplicated)
}

func tell(t *testing.T, what string, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	t.Logf("%s: p50 %v, p99 %v, most %v (%d)", what, took[len(took)/2].Round(10*time.Microsecond),
		took[len(took)*99/100].Round(10*time.Microsecond), took[len(took)-1].Round(10*time.Microsecond), len(took))
}

// takeOver kills the owner of sessions, and has another replica asked at once.
func takeOver(t *testing.T) {
	f, acme := newFleet(t, 3), newTenant(t)
	f.fence = "5s"
	a, b := f.add(), f.add()
	var killed, paused []time.Duration
	for range 20 {
		sessions := []string{acme.open(t, a), acme.open(t, a), acme.open(t, a), acme.open(t, a), acme.open(t, a)}
		for _, s := range sessions {
			acme.mustCall(t, b, s)
		}
		a.end(syscall.SIGKILL)
		killed = append(killed, eachCall(t, acme, b, sessions)...)
		a.start()
		f.awaitReady(a)
	}
	for range 5 {
		s := []string{acme.open(t, a)}
		a.signal(syscall.SIGSTOP)
		<-time.After(100 * time.Millisecond)
		// The first call may be told that nobody knows whether it was executed; the next one is answered.
		began := time.Now()
		_, _, _, _ = acme.send(t.Context(), http.MethodPost, b.url(), s[0], callMessage())
		acme.mustCall(t, b, s[0])
		paused = append(paused, time.Since(began))
		a.signal(syscall.SIGCONT)
		f.await("it is back", func() bool { return a.readiness().State == "ready" && !a.readiness().Replica.CutOff })
		acme.mustCall(t, a, s[0])
	}
	tell(t, "take-over after kill -9 of the owner", killed)
	tell(t, "take-over after SIGSTOP of the owner, --fence-after 5s", paused)
}

func eachCall(t *testing.T, acme tenant, r *replica, sessions []string) (took []time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var calls sync.WaitGroup
	for _, s := range sessions {
		calls.Go(func() {
			began := time.Now()
			if err := acme.call(t.Context(), r, s); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
		})
	}
	calls.Wait()
	return took
}

// forwarding calls a session at its own replica and at another one, in turn.
func forwarding(t *testing.T) {
	f, acme := newFleet(t, 3), newTenant(t)
	a, b := f.add(), f.add()
	s := acme.open(t, a)
	const list = `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`
	var own, other []time.Duration
	for i := range 4000 {
		r, to := a, &own
		if i%2 == 1 {
			r, to = b, &other
		}
		began := time.Now()
		status, text, _, err := acme.send(t.Context(), http.MethodPost, r.url(), s, list)
		if err != nil || status != http.StatusOK {
			t.Fatal(status, text, err)
		}
		*to = append(*to, time.Since(began))
	}
	tell(t, "tools/list at the session's replica", own)
	tell(t, "tools/list at another replica, forwarded", other)
}

// appendReplicated lets callers append to a stream of three replicas, and a standby on another connection follow.
func appendReplicated(t *testing.T) {
	f := newFleet(t, 3)
	ring := seal.GenerateKeyring()
	open := func() *jetstream.Journal {
		nc, err := jetstream.Connect(f.url, jetstream.ConnectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		var j *jetstream.Journal
		f.await("a journal", func() bool {
			j, err = jetstream.Open(t.Context(), nc, jetstream.Options{Replicas: 3, Create: true})
			return err == nil
		})
		return j
	}
	writer, standby := open(), open()
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(ring, w)
	if err != nil {
		t.Fatal(err)
	}
	c, err := commit.New(commit.Options{Port: writer, Encoder: sealer, Journal: writer.ID(), Writer: w})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	follower, err := replay.Follow(t.Context(), replay.FollowOptions{Source: standby, Opener: seal.NewBatchOpener(ring)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = follower.Close() }()
	for _, callers := range []int{1, 64, 512} {
		var mu sync.Mutex
		var took, lag []time.Duration
		var all sync.WaitGroup
		end := time.Now().Add(5 * time.Second)
		for range callers {
			all.Go(func() {
				for n := 0; time.Now().Before(end); n++ {
					began := time.Now()
					pos, err := c.Append(t.Context(), journal.Event{
						Kind: journal.KindTouched, Ref: journal.NewSessionID().Ref(), At: journal.InstantOf(began), Epoch: 1,
					})
					if err != nil {
						t.Error(err)
						return
					}
					stored := time.Now()
					behind := time.Duration(-1)
					if n%50 == 0 && follower.WaitFor(t.Context(), pos.Seq) == nil {
						behind = time.Since(stored)
					}
					mu.Lock()
					took = append(took, stored.Sub(began))
					if behind >= 0 {
						lag = append(lag, behind)
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		t.Logf("%d callers: %d events/s", callers, len(took)/5)
		tell(t, "append", took)
		tell(t, "from the acknowledgement until a standby has folded it", lag)
	}
}
