package commit_test

import (
	"context"
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

func TestLoneAppendWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		start := time.Now()
		for i := range 3 {
			pos, err := r.Append(t.Context(), event(i))
			if want := (journal.Position{Seq: journal.Seq(i + 1)}); err != nil || pos != want {
				t.Fatalf("append %d: %v, %v", i, pos, err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("waited %v", d)
		}
		r.end(t)
	})
}

func TestWaitersShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.stream.Inject(func(journal.WriterID) memory.Fault { return memory.Fault{Delay: time.Millisecond} })
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				if i > 0 {
					time.Sleep(time.Microsecond)
				}
				pos, err := r.Append(t.Context(), event(2*i), event(2*i+1))
				if err != nil {
					t.Errorf("append: %v", err)
				}
				if i == 0 && pos.Seq != 1 || i > 0 && (pos.Seq != 2 || pos.Index%2 != 0) {
					t.Errorf("append %d at %v", i, pos)
				}
			})
		}
		wg.Wait()
		h := r.end(t)
		if len(h.Batches) != 2 || len(h.Batches[1].Events) != 598 {
			t.Fatalf("%d batches", len(h.Batches))
		}
		for i := 0; i < 598; i += 2 {
			a, b := h.Batches[1].Events[i].Call.Number, h.Batches[1].Events[i+1].Call.Number
			if a+1 != b || a%2 != 0 {
				t.Fatalf("events %d and %d of one append are apart", a, b)
			}
		}
	})
}

func TestBatchLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.stream.Inject(func(journal.WriterID) memory.Fault { return memory.Fault{Delay: time.Millisecond} })
		big := event(1)
		big.Kind, big.Created = journal.KindCreated, &journal.Created{Context: make([]byte, 100<<10)}
		var wg sync.WaitGroup
		for range 11 {
			wg.Go(func() {
				if _, err := r.Append(t.Context(), big); err != nil {
					t.Error(err)
				}
			})
		}
		for range 5 {
			wg.Go(func() {
				if _, err := r.Append(t.Context(), make500()...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, err := r.Append(t.Context(), append(make500(), append(make500(), event(0))...)...); !errors.Is(err, journal.ErrTooLarge) {
			t.Errorf("1001 events: %v", err)
		}
		big.Created = &journal.Created{Context: make([]byte, journal.MaxBatchBytes)}
		if _, err := r.Append(t.Context(), big); !errors.Is(err, journal.ErrTooLarge) {
			t.Errorf("a huge event: %v", err)
		}
		r.Post(big)
		if s := r.Stats(); s.Lost != 1 {
			t.Errorf("lost %d", s.Lost)
		}
		if _, err := r.Append(t.Context(), journal.Event{}); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("no kind: %v", err)
		}
		for i, b := range r.end(t).Batches {
			size := 0
			for _, e := range b.Events {
				if e.Created != nil {
					size += len(e.Created.Context)
				}
			}
			if len(b.Events) > journal.MaxBatchEvents || size > journal.MaxBatchBytes {
				t.Errorf("batch %d: %d events, %d bytes", i+1, len(b.Events), size)
			}
		}
	})
}

func make500() (events []journal.Event) {
	for i := range 500 {
		events = append(events, event(i))
	}
	return events
}

func TestPostedEventsLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Post(event(1))
		time.Sleep(4 * time.Millisecond)
		r.Post(event(2))
		synctest.Wait()
		if s := r.Stats(); s.Batches != 0 || s.Buffered != 2 {
			t.Fatalf("after 4 ms: %+v", s)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if s := r.Stats(); s.Batches != 1 {
			t.Fatalf("after 5 ms: %+v", s)
		}
		r.Post(event(3))
		if _, err := r.Append(t.Context(), event(4)); err != nil { // takes 3 along, before it
			t.Fatal(err)
		}
		r.Post(event(5))
		want := [][]int{{1, 2}, {3, 4}, {5}}
		if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestFullBatchDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		for i := range 2500 {
			r.Post(event(i))
		}
		synctest.Wait()
		if s := r.Stats(); s.Events != 2000 || s.Buffered != 500 {
			t.Errorf("%+v", s)
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); s.Events != 2500 || s.Batches != 3 {
			t.Errorf("%+v", s)
		}
		r.end(t)
	})
}

func TestGivingUpInTheQueueStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.stream.Inject(faults(memory.Fault{Delay: time.Second}))
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the client went away")
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Append(ctx, event(1)); !errors.Is(err, journal.ErrOutcomeUnknown) || !errors.Is(err, why) {
				t.Errorf("in flight: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := r.Append(ctx, event(2)); err != why { //nolint:errorlint // the bare cause
				t.Errorf("queued: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := r.Append(t.Context(), event(3)); err != nil {
				t.Errorf("patient: %v", err)
			}
		})
		synctest.Wait()
		cancel(why)
		wg.Wait()
		if _, err := r.Append(ctx, event(4)); err != why { //nolint:errorlint // the bare cause
			t.Errorf("with an ended context: %v", err)
		}
		want := [][]int{{1}, {3}}
		if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestHeaderCarriesBasisAndChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		basis := journal.Basis{Seq: 7, Root: journal.Root{1}}
		r := newRig(t, func(o *commit.Options) { o.Basis = func() journal.Basis { return basis } })
		for i := range 3 {
			if _, err := r.Append(t.Context(), event(i)); err != nil {
				t.Fatal(err)
			}
		}
		for _, b := range r.end(t).Batches { // ReadHistory checks the chain
			if b.Basis != basis || b.Writer != r.writer {
				t.Errorf("header %+v", b.Header)
			}
		}
	})
}

func TestRecentGivesOwnBatchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *commit.Options) { o.KeepBatches = 2 })
		for i := range 4 {
			if _, err := r.Append(t.Context(), event(i)); err != nil {
				t.Fatal(err)
			}
		}
		take := func(w journal.WriterID, n uint64) bool {
			m, err := r.stream.Last(t.Context(), r.writer)
			if err != nil {
				t.Fatal(err)
			}
			events, ok := r.Recent(w, n, journal.DigestOf(m.Data))
			return ok && len(events) == 1 && events[0].Call.Number == 3
		}
		if take(journal.NewWriterID(), 4) || take(r.writer, 3) || take(r.writer, 1) {
			t.Error("gave what was not asked for")
		}
		if !take(r.writer, 4) {
			t.Error("does not know the last batch")
		}
		if take(r.writer, 4) {
			t.Error("gave a batch twice")
		}
		r.end(t)
	})
}

func TestEncoderRefusalHarmsOnlyItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *commit.Options) { o.Encoder = picky{} })
		r.stream.Inject(faults(memory.Fault{Delay: time.Millisecond}))
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Microsecond)
				if _, err := r.Append(t.Context(), event(i)); errors.Is(err, errPicky) != (i == 13) {
					t.Errorf("append %d: %v", i, err)
				}
			})
		}
		r.Post(event(13))
		wg.Wait()
		if h := r.end(t); len(h.Events) != 63 {
			t.Errorf("%d events", len(h.Events))
		}
		if s := r.Stats(); s.Lost != 1 {
			t.Errorf("lost %d", s.Lost)
		}
	})
}

func TestClosedCommitterRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.Post(event(1))
		if h := r.end(t); len(h.Events) != 1 {
			t.Errorf("%d events after close", len(h.Events))
		}
		if _, err := r.Append(t.Context(), event(2)); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("append after close: %v", err)
		}
		r.Post(event(3))
		if s := r.Stats(); s.Lost != 1 || s.Events != 1 {
			t.Errorf("%+v", s)
		}
		r.end(t)
	})
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := commit.New(commit.Options{}); err == nil {
		t.Error("no port, no error")
	}
}
