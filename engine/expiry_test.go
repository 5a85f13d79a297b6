package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestSweepExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.SessionTimeout, o.HibernateAfter = 10*time.Minute, time.Hour })
		rt := &runtime{}
		for range 1201 {
			h.create(alice(), nil)
		}
		h.create(alice(), rt)
		time.Sleep(10*time.Minute + 2*time.Second)
		if i := h.SessionInfo(); i.Sessions != 0 || i.Live != 0 || rt.closed.Load() != 1 {
			t.Errorf("%+v, runtime closed %d times", i, rt.closed.Load())
		}
		for _, e := range h.pen.events(journal.KindExpired) {
			if e.Basis == 0 {
				t.Fatal("expired without a basis")
			}
		}
	})
}

func TestLeasedSessionsAreTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		h := newHouse(t, l, "a", func(o *engine.Options) { o.SessionTimeout = 8 * time.Minute })
		other := newHouse(t, l, "b")
		id := h.create(alice(), nil)
		lease := h.acquire(id, alice())
		time.Sleep(time.Hour)
		if n := h.pen.count(journal.KindTouched); n < 29 || n > 30 {
			t.Errorf("touched %d times in an hour, want every 2 minutes", n)
		}
		lease.Release()
		time.Sleep(5 * time.Minute)
		lease = h.acquire(id, alice()) // a stream without a request that begins late
		time.Sleep(time.Hour)
		other.acquire(id, alice()).Release()
		lease.Release()
		time.Sleep(8 * time.Minute)
		other.unknown(id, alice())
	})
}

func TestExpireDueAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		before := newHouse(t, l, "a")
		for range 7 {
			before.create(alice(), nil)
		}
		time.Sleep(20 * time.Minute)
		id := before.create(alice(), nil)
		if err := before.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		h := newHouse(t, l, "c")
		if n, err := h.ExpireDue(t.Context()); n != 7 || err != nil {
			t.Errorf("%d expired, %v; want 7", n, err)
		}
		h.acquire(id, alice()).Release()
	})
}

func TestNothingExpiresInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		h := newHouse(t, l, "a", func(o *engine.Options) { o.SessionTimeout, o.OutageGrace = 10*time.Minute, 2*time.Minute })
		id := h.create(alice(), nil)
		time.Sleep(9 * time.Minute)
		l.down.Store(true)
		time.Sleep(5 * time.Minute)
		h.acquire(id, alice()).Release() // overdue by four minutes, but who knows what else was accessed
		if _, err := h.Create(t.Context(), alice(), open(nil)); err == nil {
			t.Error("created with the stream out of reach")
		}
		l.down.Store(false)
		time.Sleep(100 * time.Second)
		h.acquire(id, alice()).Release()
		if n, err := h.ExpireDue(t.Context()); n != 0 || err != nil {
			t.Errorf("%d expired within the grace period, %v", n, err)
		}
		time.Sleep(25 * time.Second)
		h.unknown(id, alice())
	})
}

// What another replica is bound to expires there; only if that one is dead do others do it.
func TestForeignSessionsExpireLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		a := newHouse(t, l, "a", func(o *engine.Options) { o.SessionTimeout = time.Minute })
		b := newHouse(t, l, "b", func(o *engine.Options) { o.SessionTimeout = time.Minute })
		a.create(alice(), nil)
		time.Sleep(63 * time.Second)
		if n := b.pen.count(journal.KindExpired); n != 0 || a.SessionInfo().Sessions != 0 {
			t.Errorf("%d expired by the wrong replica, %d left", n, a.SessionInfo().Sessions)
		}
		a.create(alice(), nil)
		if err := a.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(80 * time.Second)
		if n := b.SessionInfo().Sessions; n != 0 {
			t.Errorf("%d sessions of a dead replica left", n)
		}
	})
}
