package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestHibernatesWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.HibernateAfter = time.Minute })
		rt := &runtime{}
		id := h.create(alice(), rt)
		time.Sleep(50 * time.Second)
		h.acquire(id, alice()).Release()
		time.Sleep(50 * time.Second)
		if rt.closed.Load() != 0 {
			t.Error("hibernated although it was used")
		}
		l := h.acquire(id, alice())
		time.Sleep(time.Hour)
		if rt.closed.Load() != 0 {
			t.Error("hibernated under a lease")
		}
		l.Release()
		l.Release() // further calls do nothing
		time.Sleep(61*time.Second + time.Second)
		if i := h.SessionInfo(); rt.closed.Load() != 1 || i.Live != 0 || i.Dormant != 1 {
			t.Errorf("not hibernated: %+v", i)
		}
		l = h.acquire(id, alice())
		defer l.Release()
		got, err := l.Runtime(t.Context())
		if err != nil || got == engine.Runtime(rt) {
			t.Errorf("woken: %v, %v", got, err)
		}
		if i := h.SessionInfo(); i.Live != 1 || i.Dormant != 0 || !i.Active || i.OldestAge < time.Hour {
			t.Errorf("info %+v", i)
		}
	})
}

func TestMaxLiveHibernatesTheLeastRecentlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.MaxLive = 2 })
		rts := []*runtime{{}, {}, {}, {}}
		ids := make([]journal.SessionID, len(rts))
		for i := range 2 {
			ids[i] = h.create(alice(), rts[i])
			time.Sleep(time.Millisecond)
		}
		h.acquire(ids[0], alice()).Release()
		held := h.acquire(ids[0], alice())
		ids[2] = h.create(alice(), rts[2])
		synctest.Wait()
		if rts[1].closed.Load() != 1 || rts[0].closed.Load() != 0 {
			t.Error("not the least recently used one was hibernated")
		}
		held2 := h.acquire(ids[2], alice())
		ids[3] = h.create(alice(), rts[3]) // all others are leased: it goes itself when it is released
		synctest.Wait()
		if rts[0].closed.Load()+rts[2].closed.Load() != 0 || rts[3].closed.Load() != 1 {
			t.Error("a leased one was hibernated")
		}
		held.Release()
		held2.Release()
		if i := h.SessionInfo(); i.Live != 2 || i.Sessions != 4 {
			t.Errorf("info %+v", i)
		}
	})
}

func TestWakeIsSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		id := h.create(alice(), nil)
		h.waker.wake = func(context.Context, *engine.Session) error { time.Sleep(time.Second); return nil }
		var wg sync.WaitGroup
		var got sync.Map
		for range 20 {
			wg.Go(func() {
				l := h.acquire(id, alice())
				defer l.Release()
				rt, err := l.Runtime(t.Context())
				if err != nil {
					t.Error(err)
				}
				got.Store(rt, true)
			})
		}
		wg.Wait()
		if h.waker.count() != 1 {
			t.Errorf("%d wakes, want 1", h.waker.count())
		}
	})
}

func TestFailedWakeIsToldToAllAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		id := h.create(alice(), nil)
		var fail atomic.Bool
		var tries atomic.Int32
		fail.Store(true)
		h.waker.wake = func(context.Context, *engine.Session) error {
			tries.Add(1)
			time.Sleep(time.Second)
			if fail.Load() {
				return errRefused
			}
			return nil
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				l := h.acquire(id, alice())
				defer l.Release()
				_, err := l.Runtime(t.Context())
				wantErr(t, err, errRefused)
			})
		}
		wg.Wait()
		fail.Store(false)
		l := h.acquire(id, alice())
		defer l.Release()
		if _, err := l.Runtime(t.Context()); err != nil || tries.Load() != 2 {
			t.Errorf("%v after %d tries", err, tries.Load())
		}
	})
}

func TestWakeOutlivesItsFirstWaiterButNotItsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		id := h.create(alice(), nil)
		type key struct{}
		h.waker.wake = func(ctx context.Context, _ *engine.Session) error {
			if ctx.Value(key{}) == nil {
				t.Error("the waking request's values are missing")
			}
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		ctx := context.WithValue(t.Context(), key{}, 1)
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		l := h.acquire(id, alice())
		defer l.Release()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := l.Runtime(short)
			wantErr(t, err, context.DeadlineExceeded)
		})
		wg.Go(func() {
			time.Sleep(50 * time.Millisecond)
			if _, err := l.Runtime(ctx); err != nil {
				t.Errorf("the second waiter: %v", err)
			}
		})
		wg.Wait()

		id = h.create(alice(), nil)
		l2 := h.acquire(id, alice())
		defer l2.Release()
		short, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err := l2.Runtime(short)
		wantErr(t, err, context.DeadlineExceeded)
		if _, err := l2.Runtime(ctx); err != nil { // joins what is being given up, and tries again
			t.Errorf("after all had left: %v", err)
		}
	})
}

func TestWakeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.WakeTimeout = 3 * time.Second })
		id := h.create(alice(), nil)
		h.waker.wake = func(ctx context.Context, _ *engine.Session) error { <-ctx.Done(); return ctx.Err() }
		l := h.acquire(id, alice())
		defer l.Release()
		start := time.Now()
		_, err := l.Runtime(t.Context())
		if d := time.Since(start); d != 3*time.Second || err == nil || !strings.Contains(err.Error(), "took too long") {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

func TestPanickingWakerHarmsItsRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		id := h.create(alice(), nil)
		h.waker.wake = func(context.Context, *engine.Session) error { panic("boom") }
		l := h.acquire(id, alice())
		defer l.Release()
		if _, err := l.Runtime(t.Context()); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("error %v", err)
		}
	})
}

// A session never has two runtimes: the next wake begins when the last runtime is closed.
func TestWakeWaitsForTheLastRuntimeToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.HibernateAfter = time.Minute })
		rt := &runtime{slow: make(chan struct{})}
		id := h.create(alice(), rt)
		time.Sleep(2 * time.Minute)
		time.AfterFunc(5*time.Second, func() { close(rt.slow) })
		h.waker.wake = func(context.Context, *engine.Session) error {
			if rt.closed.Load() != 1 {
				t.Error("woken while the old runtime is being closed")
			}
			return nil
		}
		l := h.acquire(id, alice())
		defer l.Release()
		if _, err := l.Runtime(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseEndsTheSessionUnderItsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		rt := &runtime{}
		id := h.create(alice(), rt)
		stream := h.acquire(id, alice())
		defer stream.Release()
		if _, err := stream.Runtime(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := h.acquire(id, alice())
		defer l.Release()
		if err := l.Close(t.Context(), journal.ReasonClient); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if rt.closed.Load() != 1 {
			t.Error("runtime of an ended session left open")
		}
		_, err := stream.Runtime(t.Context())
		wantErr(t, err, engine.ErrUnknownSession)
		wantErr(t, l.Close(t.Context(), journal.ReasonClient), engine.ErrUnknownSession)
		if _, ok := l.Session().State(); ok {
			t.Error("it still has a state")
		}
		h.unknown(id, alice())
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		h := newHouse(t, l, "a")
		rts := []*runtime{{}, {}}
		h.create(alice(), rts[0])
		id := h.create(alice(), rts[1])
		held := h.acquire(id, alice())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		time.AfterFunc(3*time.Second, held.Release)
		start := time.Now()
		if err := h.Shutdown(ctx); err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("shutdown %v after %v", err, time.Since(start))
		}
		if rts[0].closed.Load() != 1 || rts[1].closed.Load() != 1 {
			t.Error("runtimes left open")
		}
		_, err := h.Acquire(t.Context(), id, alice())
		wantErr(t, err, engine.ErrNotReady)
		_, err = h.Create(t.Context(), alice(), open(nil))
		wantErr(t, err, engine.ErrNotReady)
		next := newHouse(t, l, "a")
		if i := next.SessionInfo(); i.Sessions != 2 || i.Dormant != 2 {
			t.Errorf("after a restart: %+v", i)
		}
		lease := next.acquire(id, alice())
		defer lease.Release()
		if _, err := lease.Runtime(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		rt := &runtime{}
		id := h.create(alice(), rt)
		held := h.acquire(id, alice())
		if _, err := held.Runtime(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, h.Shutdown(ctx), context.DeadlineExceeded)
		if rt.closed.Load() != 1 {
			t.Error("runtime left open")
		}
		_, err := held.Runtime(t.Context())
		wantErr(t, err, engine.ErrNotReady)
		held.Release()
	})
}

func TestShutdownDoesNotHangOnARuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		rt := &runtime{slow: make(chan struct{})}
		defer close(rt.slow)
		h.create(alice(), rt)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		wantErr(t, h.Shutdown(ctx), context.DeadlineExceeded)
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("gave up after %v", d)
		}
	})
}

// Everything at once, for the race detector: no session ever has two open runtimes, none that is leased is
// closed but by Close, and nothing is left over.
func TestConcurrentAcquireCloseWake(t *testing.T) {
	h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.MaxLive, o.HibernateAfter = 3, time.Millisecond })
	var ids []journal.SessionID
	for range 12 {
		ids = append(ids, h.create(alice(), &runtime{}))
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 300 {
				h.oneRequest(ids[r.IntN(len(ids))], r)
			}
		})
	}
	wg.Wait()
	h.waker.mu.Lock()
	defer h.waker.mu.Unlock()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for _, rt := range h.waker.made {
		if rt.closed.Load() != 1 {
			t.Error("a runtime was left open")
		}
	}
}

func (h *house) oneRequest(id journal.SessionID, r *rand.Rand) {
	l, err := h.Acquire(h.t.Context(), id, alice())
	if err != nil {
		wantErr(h.t, err, engine.ErrUnknownSession)
		return
	}
	defer l.Release()
	c := l.Begin("tools/call", "x")
	defer c.End(journal.OutcomeOK)
	rt, err := l.Runtime(h.t.Context())
	if err != nil {
		wantErr(h.t, err, engine.ErrUnknownSession)
		return
	}
	if r.IntN(400) == 0 {
		if err := l.Close(h.t.Context(), journal.ReasonClient); err != nil && !errors.Is(err, engine.ErrUnknownSession) {
			h.t.Error(err)
		}
		return
	}
	if rt.(*runtime).closed.Load() != 0 {
		if _, ok := l.Session().State(); ok {
			h.t.Error("a leased runtime was closed")
		}
	}
}
