package commit_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/memory"
)

const patience = 15 * time.Second

func patient(o *commit.Options) {
	o.Patience, o.MaxWait, o.MaxRetry = patience, patience, 250*time.Millisecond
}

func leaderless(journal.WriterID) memory.Fault { return memory.Fault{Kind: memory.NoLeader} }

// Callers wait until the stream has a leader again, whether their batch was surely not stored or is in doubt, and those who
// come later too.
func TestElectionsAreWaitedOut(t *testing.T) {
	for name, first := range map[string][]memory.Fault{
		"refused":  nil,
		"in doubt": {{Kind: memory.LostMessage}},
		"stored":   {{Kind: memory.LostAck}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, patient)
				given := faults(first...)
				n := 0
				r.stream.Inject(func(w journal.WriterID) memory.Fault {
					if n++; n <= len(first) {
						return given(w)
					}
					return leaderless(w)
				})
				began := time.Now()
				var callers sync.WaitGroup
				for i := range 3 {
					callers.Go(func() {
						if _, err := r.Append(t.Context(), event(i)); err != nil {
							t.Errorf("event %d: %v", i, err)
						}
					})
					time.Sleep(time.Second)
				}
				r.Post(event(3))
				time.Sleep(time.Until(began.Add(9 * time.Second)))
				r.stream.Inject(nil)
				callers.Wait()
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("answered after %v, and the stream was without a leader for nine seconds", took)
				}
				var all []int
				for _, batch := range numbers(r.end(t)) {
					all = append(all, batch...)
				}
				if want := []int{0, 1, 2, 3}; !reflect.DeepEqual(all, want) {
					t.Errorf("stored %v, want %v", all, want)
				}
			})
		})
	}
}

// An outage that does not end is not waited for by everybody anew.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, patient)
		r.stream.Inject(leaderless)
		began := time.Now()
		if _, err := r.Append(t.Context(), event(1)); !errors.Is(err, journal.ErrUnavailable) || errors.Is(err, journal.ErrOutcomeUnknown) {
			t.Errorf("first: %v", err)
		}
		if took := time.Since(began); took < patience || took > patience+time.Second {
			t.Errorf("the first waited %v", took)
		}
		for range 5 {
			began := time.Now()
			if _, err := r.Append(t.Context(), event(2)); !errors.Is(err, journal.ErrUnavailable) {
				t.Errorf("later: %v", err)
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("a later one waited %v", took)
			}
			time.Sleep(time.Second)
		}
		r.stream.Inject(nil)
		if _, err := r.Append(t.Context(), event(3)); err != nil {
			t.Errorf("when it is over: %v", err)
		}
		if got, want := numbers(r.end(t)), [][]int{{3}}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
