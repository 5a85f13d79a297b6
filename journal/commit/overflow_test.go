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

func TestOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.stream.SetDown(true)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := r.Append(t.Context(), event(i)); !errors.Is(err, journal.ErrUnavailable) {
					t.Errorf("append: %v", err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d > 0 {
			t.Errorf("failed after %v", d)
		}
		for i := range 1500 {
			r.Post(event(100 + i))
			time.Sleep(time.Millisecond)
		}
		if err := r.Flush(t.Context()); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("flush: %v", err)
		}
		if s := r.Stats(); s.Buffered != 1500 || s.Down == nil || s.Lost+s.Superseded != 0 {
			t.Errorf("%+v", s)
		}
		r.stream.SetDown(false)
		time.Sleep(commit.DefaultRetryEvery)
		if _, err := r.Append(t.Context(), event(7)); err != nil {
			t.Fatal(err)
		}
		if s := r.Stats(); s.Down != nil {
			t.Errorf("still down: %v", s.Down)
		}
		n := 100
		for _, of := range numbers(r.end(t)) {
			for _, got := range of {
				if want := n; got != want && (got != 7 || n != 1600) {
					t.Fatalf("got event %d, want %d", got, want)
				}
				n++
			}
		}
		if n != 1601 {
			t.Errorf("%d events", n-100)
		}
	})
}

func TestBufferedAccessesGoOutByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.stream.SetDown(true)
		r.Post(event(1))
		time.Sleep(10 * time.Minute)
		if s := r.Stats(); s.Attempts > 700 || s.Attempts < 300 {
			t.Errorf("%d attempts in ten minutes", s.Attempts)
		}
		r.stream.SetDown(false)
		time.Sleep(2 * commit.DefaultMaxRetry)
		if s := r.Stats(); s.Events != 1 || s.Down != nil {
			t.Errorf("%+v", s)
		}
		r.end(t)
	})
}

func TestOverflowKeepsNewestAccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *commit.Options) { o.MaxBuffered = 64 })
		r.stream.SetDown(true)
		closed := journal.Event{Kind: journal.KindClosed, Ref: journal.Ref{9}, At: 1, Reason: journal.ReasonClient}
		r.Post(closed)
		for round := range 100 {
			for session := range 20 {
				e := event(session)
				e.Call.Number = uint64(round)
				r.Post(e)
			}
		}
		r.stream.SetDown(false)
		h := r.end(t)
		newest := make(map[journal.Ref]uint64)
		for _, b := range h.Batches {
			for _, e := range b.Events {
				newest[e.Ref] = e.Call.Number
			}
		}
		s := r.Stats()
		if len(newest) != 21 || s.Lost != 0 || s.Superseded+s.Events != 2001 {
			t.Errorf("%d sessions, %+v", len(newest), s)
		}
		for ref, n := range newest {
			if n != 99 && ref != closed.Ref {
				t.Errorf("%v: newest is %d", ref, n)
			}
		}
	})
}

func TestOverflowLosesOldestAccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *commit.Options) { o.MaxBuffered = 64 })
		r.stream.SetDown(true)
		for i := range 1000 {
			r.Post(event(i))
		}
		r.stream.SetDown(false)
		h := r.end(t)
		s := r.Stats()
		if s.Lost+s.Events != 1000 || s.Events > 64 || s.Events < 50 {
			t.Errorf("%+v", s)
		}
		if _, last := h.Events[journal.Position{Seq: 1, Index: uint32(s.Events - 1)}]; !last {
			t.Errorf("%v", numbers(h))
		}
	})
}

func TestOverflowKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *commit.Options) { o.MaxBuffered = 16 })
		r.stream.Inject(faults(memory.Fault{Delay: time.Second}))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Append(t.Context(), event(0)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 10 {
			r.Post(event(1)) // one session: all but the last are superseded
		}
		wg.Go(func() {
			if _, err := r.Append(t.Context(), event(2)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for i := range 7 {
			r.Post(event(3 + i))
		}
		wg.Wait()
		want := [][]int{{0}, {1, 2, 3, 4, 5, 6, 7, 8, 9}}
		if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
