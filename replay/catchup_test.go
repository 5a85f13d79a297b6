package replay_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

func TestCatchUpSeesWhatWasStoredBefore(t *testing.T) {
	s, stream := long(t, 3)
	f := follow(t, replay.FollowOptions{Source: stream})
	for range 100 {
		seq := s.store(stream, touched())
		if err := f.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.Basis().Seq; got < seq {
			t.Fatalf("caught up to %d, stored %d before", got, seq)
		}
	}
}

// A question that was on its way at the call does not count: what it learns may be older than the call.
func TestCatchUpNeverJoinsAnEarlierQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stream := long(t, 3)
		var asked atomic.Int32
		answer := make(chan struct{})
		stream.OnBounds = func(ctx context.Context) error {
			if asked.Add(1) == 1 {
				return nil // Follow's own
			}
			select {
			case <-answer:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		f := follow(t, replay.FollowOptions{Source: stream})
		var first, later sync.WaitGroup
		first.Go(func() { _ = f.CatchUp(t.Context()) })
		synctest.Wait()
		for range 100 {
			later.Go(func() {
				if err := f.CatchUp(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := asked.Load(); got != 2 {
			t.Fatalf("%d questions are on their way", got-1)
		}
		answer <- struct{}{}
		first.Wait()
		time.Sleep(time.Second)
		if got := asked.Load(); got != 3 {
			t.Fatalf("%d questions for the 100 later calls", got-2)
		}
		answer <- struct{}{}
		later.Wait()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCatchUpIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stream := long(t, 3)
		var asked atomic.Int32
		stream.OnBounds = func(context.Context) error {
			asked.Add(1)
			return nil
		}
		f := follow(t, replay.FollowOptions{Source: stream, QueryEvery: 10 * time.Millisecond})
		begin := time.Now()
		for range 50 {
			if err := f.CatchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 490*time.Millisecond || asked.Load() != 51 {
			t.Fatalf("%d questions in %v", asked.Load()-1, took)
		}
		time.Sleep(time.Minute)
		begin = time.Now()
		if err := f.CatchUp(t.Context()); err != nil || time.Since(begin) != 0 {
			t.Fatalf("after a pause: %v, %v", err, time.Since(begin))
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCatchUpFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stream := long(t, 3)
		down := atomic.Bool{}
		stream.OnBounds = func(ctx context.Context) error {
			if !down.Load() {
				return nil
			}
			<-ctx.Done()
			return errors.Join(journal.ErrUnavailable, ctx.Err())
		}
		f := follow(t, replay.FollowOptions{Source: stream, QueryTimeout: time.Second})
		down.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := f.CatchUp(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the caller's own deadline: %v", err)
		}
		if err := f.CatchUp(t.Context()); !errors.Is(err, journal.ErrUnavailable) {
			t.Fatalf("a leader that does not answer: %v", err)
		}
		down.Store(false)
		if err := f.CatchUp(t.Context()); err != nil {
			t.Fatalf("after an outage: %v", err)
		}
		down.Store(true)
		go func() { _ = f.CatchUp(t.Context()) }()
		synctest.Wait()
		if err := f.Close(); err != nil {
			t.Fatalf("closing with a question on its way: %v", err)
		}
	})
}

func TestCatchUpNoticesAShrunkStream(t *testing.T) {
	_, stream := long(t, 10)
	f := follow(t, replay.FollowOptions{Source: stream})
	stream.Shrink(7)
	err := f.CatchUp(t.Context())
	var shrunk *replay.ShrunkError
	if !errors.As(err, &shrunk) || shrunk.Last != 7 || shrunk.Folded != 10 || !errors.Is(err, journal.ErrDamaged) {
		t.Fatalf("%v", err)
	}
	<-f.Done()
	if !errors.Is(f.Err(), err) || !errors.Is(f.Close(), err) {
		t.Fatalf("the follower went on: %v", f.Err())
	}
}

func TestCatchUpWaitsForANewLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stream := long(t, 10)
		l := replicated(stream, time.Minute)
		f := follow(t, replay.FollowOptions{Source: l, QueryTimeout: 5 * time.Second})
		l.behind.Store(3)
		time.AfterFunc(3*time.Second, func() { l.behind.Store(0) })
		begin := time.Now()
		if err := f.CatchUp(t.Context()); err != nil || time.Since(begin) < 3*time.Second {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}

		// For longer than a question may take, the stream counts as unavailable, and not as damaged.
		l.behind.Store(3)
		if err := f.CatchUp(t.Context()); !errors.Is(err, journal.ErrUnavailable) || errors.Is(err, journal.ErrDamaged) {
			t.Fatalf("%v", err)
		}
		// A minute is enough.
		for time.Since(begin) < 2*time.Minute && f.Err() == nil {
			_ = f.CatchUp(t.Context())
		}
		if _, shrunk := errors.AsType[*replay.ShrunkError](f.Err()); !shrunk {
			t.Fatalf("it went on: %v", f.Err())
		}
		if took := time.Since(begin); took < time.Minute {
			t.Fatalf("it gave up after %v", took)
		}
	})
}
