package engine_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestClaimHasOneWinner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		a, b := newHouse(t, l, "a"), newHouse(t, l, "b")
		id := a.create(alice(), nil)
		la, lb := a.acquire(id, alice()), b.acquire(id, alice())
		defer la.Release()
		defer lb.Release()
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for _, s := range []*engine.Session{la.Session(), lb.Session(), la.Session(), lb.Session()} {
			wg.Go(func() {
				epoch, err := s.Claim(t.Context(), 1)
				if err != nil {
					wantErr(t, err, engine.ErrClaimLost)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				won++
				if epoch != 2 {
					t.Errorf("epoch %d, want 2", epoch)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%d claims won, want 1", won)
		}
	})
}

func TestBind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		a, b := newHouse(t, l, "a"), newHouse(t, l, "b")
		id := a.create(alice(), nil)
		la, lb := a.acquire(id, alice()), b.acquire(id, alice())
		defer la.Release()
		defer lb.Release()
		sa, sb := la.Session(), lb.Session()
		if _, err := sb.Claim(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if got, err := sb.Binding(t.Context()); err != nil || got != (engine.Binding{Epoch: 2, Replica: "b"}) {
			t.Errorf("claimed: %+v, %v", got, err)
		}
		wantErr(t, sa.Bind(t.Context(), 1, "old"), engine.ErrClaimLost)
		wantErr(t, sa.Bind(t.Context(), 2, "not mine"), engine.ErrClaimLost)
		if err := sb.Bind(t.Context(), 2, "up-2"); err != nil {
			t.Fatal(err)
		}
		if err := sb.Bind(t.Context(), 2, ""); err != nil {
			t.Error(err)
		}
		if got, err := sa.Binding(t.Context()); err != nil || got != (engine.Binding{Epoch: 2, Replica: "b", Upstream: "up-2"}) {
			t.Errorf("bound: %+v, %v", got, err)
		}
		if err := la.Close(t.Context(), journal.ReasonClient); err != nil {
			t.Fatal(err)
		}
		_, err := sb.Claim(t.Context(), 2)
		wantErr(t, err, engine.ErrUnknownSession)
		wantErr(t, sb.Bind(t.Context(), 2, "x"), engine.ErrUnknownSession)
		_, err = sb.Binding(t.Context())
		wantErr(t, err, engine.ErrUnknownSession)
		_, err = sb.Context(t.Context())
		wantErr(t, err, engine.ErrUnknownSession)
		wantErr(t, sb.Change(t.Context(), engine.Changes{LogLevel: "debug"}), engine.ErrUnknownSession)
	})
}

func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		l := h.acquire(h.create(alice(), nil), alice())
		defer l.Release()
		s := l.Session()
		for _, c := range []engine.Changes{
			{LogLevel: "debug", Subscribed: []string{"b", "a"}},
			{Unsubscribed: []string{"b"}, Protocol: "2025-11-25", Initialize: []byte(`{"x":1}`)},
		} {
			if err := s.Change(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		st, _ := s.State()
		if st.LogLevel != "debug" || len(st.Subscriptions) != 1 || st.Subscriptions[0] != "a" ||
			st.Protocol != "2025-11-25" || string(st.Initialize) != `{"x":1}` || st.Principal != "token:alice" {
			t.Errorf("state %+v", st)
		}
	})
}

// A runtime whose session another replica has bound is dropped, by the next request or by the sweep; what
// is in use goes on until it is released.
func TestRuntimeIsDroppedWhenBoundElsewhere(t *testing.T) {
	for name, next := range map[string]func(*house, journal.SessionID){
		"request": func(h *house, id journal.SessionID) { h.acquire(id, alice()).Release() },
		"sweep":   func(*house, journal.SessionID) { time.Sleep(2 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				a, b := newHouse(t, l, "a"), newHouse(t, l, "b")
				rt := &runtime{}
				id := a.create(alice(), rt)
				used := a.acquire(id, alice())
				if _, err := used.Runtime(t.Context()); err != nil {
					t.Fatal(err)
				}
				lb := b.acquire(id, alice())
				defer lb.Release()
				if _, err := lb.Session().Claim(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				next(a, id)
				synctest.Wait()
				if i := a.SessionInfo(); i.Live != 0 || rt.closed.Load() != 0 {
					t.Errorf("live %d, closed %d while in use", i.Live, rt.closed.Load())
				}
				used.Release()
				synctest.Wait()
				if rt.closed.Load() != 1 {
					t.Error("left open")
				}
			})
		})
	}
}

// A runtime that claims or adopts a later epoch itself goes on.
func TestRuntimeThatFollowsItsBindingIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		a, b := newHouse(t, l, "a"), newHouse(t, l, "b")
		rt := &runtime{}
		var mine *engine.Session
		lease, err := a.Create(t.Context(), alice(), func(_ context.Context, s *engine.Session) (engine.Opened, error) {
			mine = s
			return engine.Opened{Runtime: rt}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
		id := lease.Session().ID()
		if _, err := mine.Claim(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		a.acquire(id, alice()).Release()
		lb := b.acquire(id, alice())
		defer lb.Release()
		if _, err := lb.Session().Claim(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if _, err := mine.Binding(t.Context()); err != nil { // adopts
			t.Fatal(err)
		}
		a.acquire(id, alice()).Release()
		time.Sleep(2 * time.Second)
		if rt.closed.Load() != 0 || a.SessionInfo().Live != 1 {
			t.Error("dropped")
		}
		last := a.acquire(id, alice())
		last.Begin("ping", "").End(journal.OutcomeOK)
		last.Release()
		if e := a.pen.events(journal.KindAccessed); e[0].Epoch != 3 {
			t.Errorf("access at epoch %d, want 3", e[0].Epoch)
		}
	})
}

func TestEndedElsewhereClosesTheRuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		a, b := newHouse(t, l, "a"), newHouse(t, l, "b")
		rt := &runtime{}
		id := a.create(alice(), rt)
		if err := b.Close(t.Context(), id.Ref(), journal.ReasonAdmin); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if rt.closed.Load() != 1 || a.SessionInfo().Live != 0 {
			t.Error("left open")
		}
	})
}
