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

// Whatever happens to the publishes of a batch: it is stored once, at the position that Append returns.
func TestFaultsThatHeal(t *testing.T) {
	for name, list := range map[string][]memory.Fault{
		"lost ack":             {{Kind: memory.LostAck}},
		"lost message":         {{Kind: memory.LostMessage}},
		"late message":         {{Kind: memory.LateMessage, Late: time.Second}},
		"late, before a retry": {{Kind: memory.LateMessage, Late: time.Millisecond}},
		"many":                 {{Kind: memory.LostMessage}, {Kind: memory.Unavailable}, {Kind: memory.LostAck}},
		"conflict for nothing": {{Kind: memory.Conflict}, {Kind: memory.Conflict}},
		"conflict, then lost":  {{Kind: memory.Conflict}, {Kind: memory.LostAck}},
		"lost, then conflict":  {{Kind: memory.LostMessage}, {Kind: memory.Conflict}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(o *commit.Options) { o.MaxWait = time.Minute })
				if _, err := r.Append(t.Context(), event(1)); err != nil {
					t.Fatal(err)
				}
				r.stream.Inject(faults(list...))
				pos, err := r.Append(t.Context(), event(2))
				if want := (journal.Position{Seq: 2}); err != nil || pos != want {
					t.Fatalf("append: %v, %v", pos, err)
				}
				if _, err := r.Append(t.Context(), event(3)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute) // whatever is late has arrived
				want := [][]int{{1}, {2}, {3}}
				if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
}

func TestForeignBatchIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		if _, err := r.Append(t.Context(), event(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.stream.Publish(t.Context(), r.writer, 1, []byte("foreign")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := r.Append(t.Context(), event(2)); !errors.Is(err, journal.ErrForeignBatch) {
				t.Errorf("append: %v", err)
			}
		}
		r.Post(event(3))
		if err := r.Close(t.Context()); !errors.Is(err, journal.ErrForeignBatch) {
			t.Errorf("close: %v", err)
		}
	})
}

func TestOwnBatchGoneIsDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		for i := range 2 {
			if _, err := r.Append(t.Context(), event(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.stream.Remove(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Append(t.Context(), event(2)); !errors.Is(err, journal.ErrDamaged) {
			t.Errorf("append: %v", err)
		}
		_ = r.Close(t.Context())
	})
}

func TestIdleWriterOutlivesATrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		if _, err := r.Append(t.Context(), event(1)); err != nil {
			t.Fatal(err)
		}
		if err := r.stream.Trim(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			pos, err := r.Append(t.Context(), event(2))
			if want := (journal.Position{Seq: journal.Seq(2 + i)}); err != nil || pos != want {
				t.Fatalf("append: %v, %v", pos, err)
			}
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The batch in doubt cannot have been trimmed away: what was trimmed is older.
func TestTrimWhileInDoubt(t *testing.T) {
	for name, known := range map[string]journal.Seq{"by itself": 1, "by its basis": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(o *commit.Options) {
					o.Basis = func() journal.Basis { return journal.Basis{Seq: known} }
				})
				trimWhileInDoubt(t, r, known)
				pos, err := r.Append(t.Context(), event(2))
				if want := (journal.Position{Seq: known + 1}); err != nil || pos != want {
					t.Errorf("append: %v, %v", pos, err)
				}
			})
		})
	}
}

func TestTrimThatMayHaveTakenABatchIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		trimWhileInDoubt(t, r, 2)
		if _, err := r.Append(t.Context(), event(2)); !errors.Is(err, journal.ErrOutcomeUnknown) {
			t.Errorf("append: %v", err)
		}
		if _, err := r.Append(t.Context(), event(3)); err == nil || errors.Is(err, journal.ErrOutcomeUnknown) {
			t.Errorf("append afterwards: %v", err)
		}
		_ = r.Close(t.Context())
	})
}

// trimWhileInDoubt fills the stream with n messages, of which the first is the committer's. The next
// publish will be lost, and all n messages trimmed away before it is tried again.
func trimWhileInDoubt(t *testing.T, r *rig, n journal.Seq) {
	t.Helper()
	if _, err := r.Append(t.Context(), event(1)); err != nil {
		t.Fatal(err)
	}
	for range n - 1 {
		if _, err := r.stream.Publish(t.Context(), journal.NewWriterID(), 0, []byte("another's")); err != nil {
			t.Fatal(err)
		}
	}
	r.stream.Inject(faults(memory.Fault{Kind: memory.LostMessage}))
	go func() {
		time.Sleep(time.Second)
		_ = r.stream.Trim(t.Context(), n+1)
	}()
}

// A stream that swallows everything does not hold callers for ever.
func TestSilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.stream.Inject(func(journal.WriterID) memory.Fault { return memory.Fault{Kind: memory.LostMessage} })
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Append(t.Context(), event(1)); !errors.Is(err, journal.ErrOutcomeUnknown) {
				t.Errorf("in doubt: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := r.Append(t.Context(), event(2)); !errors.Is(err, journal.ErrUnavailable) {
				t.Errorf("behind it: %v", err)
			}
		})
		r.Post(event(3))
		wg.Wait()
		if d := time.Since(start); d > commit.DefaultMaxWait+commit.DefaultAttemptTimeout {
			t.Errorf("waited %v", d)
		}
		if _, err := r.Append(t.Context(), event(4)); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("later: %v", err)
		}
		r.stream.Inject(nil)
		time.Sleep(10 * time.Second)
		if _, err := r.Append(t.Context(), event(5)); err != nil {
			t.Errorf("when it is over: %v", err)
		}
		want := [][]int{{1}, {3, 5}}
		if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) && !reflect.DeepEqual(got, [][]int{{1}, {3}, {5}}) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.stream.Inject(func(journal.WriterID) memory.Fault { return memory.Fault{Kind: memory.LostAck} })
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Append(t.Context(), event(1)); !errors.Is(err, journal.ErrOutcomeUnknown) {
				t.Errorf("in flight: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := r.Append(t.Context(), event(2)); !errors.Is(err, journal.ErrClosed) {
				t.Errorf("queued: %v", err)
			}
		})
		synctest.Wait()
		r.Post(event(3))
		if err := r.Close(within(t, time.Second)); err == nil {
			t.Error("close lost an access and says nothing")
		}
		wg.Wait()
		if _, err := r.Append(t.Context(), event(4)); !errors.Is(err, journal.ErrClosed) || errors.Is(err, journal.ErrOutcomeUnknown) {
			t.Errorf("afterwards: %v", err)
		}
		if s := r.Stats(); s.Unsaved != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// What overflows before a waiting Append does not move it behind what is posted later.
