package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestCreateIsOneBatchAndFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		rt := &runtime{name: "first"}
		var during journal.Ref
		l, err := h.Create(t.Context(), alice(), func(ctx context.Context, s *engine.Session) (engine.Opened, error) {
			st, ok := s.State()
			ic, err := s.Context(ctx)
			if !ok || err != nil || st.Tenant != (journal.TenantID{1}) || ic.N8nAPIKey != "key-one" {
				t.Errorf("while opening: state %v %v, context error %v", st, ok, err)
			}
			during = s.Ref()
			return open(rt)(ctx, s)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		st, ok := l.Session().State()
		if !ok || st.Ref != during || st.Epoch != 1 || st.Position.Seq != 1 || st.BoundAt != (journal.Position{Seq: 1, Index: 1}) ||
			st.Replica != "a" || st.Protocol != "2025-06-18" || st.Principal != "token:alice" || st.Timeout != 30*time.Minute {
			t.Errorf("folded: %+v", st)
		}
		b, err := l.Session().Binding(t.Context())
		if err != nil || b != (engine.Binding{Epoch: 1, Replica: "a", Upstream: "up-1"}) {
			t.Errorf("binding %+v, %v", b, err)
		}
		ic, err := l.Session().Context(t.Context())
		if err != nil || ic.N8nAPIKey != "key-one" {
			t.Errorf("context error %v", err)
		}
		got, err := l.Runtime(t.Context())
		if err != nil || got != engine.Runtime(rt) {
			t.Errorf("runtime %v, %v", got, err)
		}
	})
}

func TestCreateFailsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*ledger)
		open  error
		want  error
	}{
		"handshake":       {open: errRefused, want: errRefused},
		"unavailable":     {fault: func(l *ledger) { l.down.Store(true) }, want: journal.ErrUnavailable},
		"outcome unknown": {fault: func(l *ledger) { l.lostAck.Store(1) }, want: journal.ErrOutcomeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				h := newHouse(t, l, "a", func(o *engine.Options) { o.MaxSessions = 1 })
				rt := &runtime{}
				_, err := h.Create(t.Context(), alice(), func(context.Context, *engine.Session) (engine.Opened, error) {
					if c.fault != nil {
						c.fault(l)
					}
					return engine.Opened{Runtime: rt}, c.open
				})
				wantErr(t, err, c.want)
				if rt.closed.Load() != 1 {
					t.Error("runtime left open")
				}
				l.down.Store(false)
				time.Sleep(2 * time.Second) // the sweep closes what may have been created
				if n := h.SessionInfo().Sessions; n != 0 {
					t.Errorf("%d sessions that nobody holds", n)
				}
				h.create(alice(), nil) // the reservation is free again
			})
		})
	}
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.MaxSessions, o.MaxPerTenant = 3, 2 })
		h.create(alice(), nil)
		h.create(alice(), nil)
		_, err := h.Create(t.Context(), alice(), open(nil))
		if !errors.Is(err, engine.ErrSessionLimit) || !strings.Contains(err.Error(), "2 of 2 sessions of this tenant") {
			t.Errorf("error %v", err)
		}
		h.create(bob(), nil)
		_, err = h.Create(t.Context(), bob(), open(nil))
		if !errors.Is(err, engine.ErrSessionLimit) || !strings.Contains(err.Error(), "3 of 3 sessions in all") {
			t.Errorf("error %v", err)
		}
		if n := strings.Count(h.log.String(), "[SECURITY] max_sessions_reached"); n != 2 {
			t.Errorf("%d lines in the security log, want 2:\n%s", n, h.log)
		}
		time.Sleep(31 * time.Minute)
		h.create(bob(), nil)
	})
}

// One caller, in however many tenants, has so many sessions; those whom nobody tells apart are not counted as one.
func TestLimitPerPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.MaxPerPrincipal = 2 })
		first := h.create(alice(), nil)
		elsewhere := bob()
		elsewhere.Principal = alice().Principal
		h.create(elsewhere, nil)
		for _, c := range []engine.Caller{alice(), elsewhere} {
			if _, err := h.Create(t.Context(), c, open(nil)); !errors.Is(err, engine.ErrSessionLimit) || !strings.Contains(err.Error(), "2 of 2 sessions of this principal") {
				t.Errorf("error %v", err)
			}
		}
		h.create(bob(), nil)
		nobody := alice()
		nobody.Principal = ""
		for range 5 {
			h.create(nobody, nil)
		}
		wantErr(t, h.Close(t.Context(), first.Ref(), journal.ReasonClient), nil)
		h.create(alice(), nil)
	})
}

// Timed-out sessions make room at once, not only when the sweep comes.
func TestLimitExpiresFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		h := newHouse(t, l, "a", func(o *engine.Options) { o.MaxSessions, o.SessionTimeout = 1, 100*time.Millisecond })
		h.create(alice(), nil)
		time.Sleep(100 * time.Millisecond)
		h.create(alice(), nil)
	})
}

func TestLimitHoldsAgainstConcurrentCreates(t *testing.T) {
	const limit = 10
	h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.MaxSessions = limit })
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, refused := 0, 0
	for range 8 * limit {
		wg.Go(func() {
			l, err := h.Create(t.Context(), alice(), open(&runtime{}))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				wantErr(t, err, engine.ErrSessionLimit)
				refused++
				return
			}
			made++
			l.Release()
		})
	}
	wg.Wait()
	if made != limit || h.SessionInfo().Sessions != limit {
		t.Errorf("%d made, %d refused, %d folded; the limit is %d", made, refused, h.SessionInfo().Sessions, limit)
	}
}
