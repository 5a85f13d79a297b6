package engine_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestOnlyTheCreatorMayUseASession(t *testing.T) {
	for differs, change := range map[string]func(*engine.Caller){
		"principal": func(c *engine.Caller) { c.Principal = "token:mallory" },
		"tenant":    func(c *engine.Caller) { c.Tenant = journal.TenantID{9} },
		"url":       func(c *engine.Caller) { c.URLHash = journal.URLHash{} },
		"instance":  func(c *engine.Caller) { ic := *c.Context; ic.InstanceID = "other"; c.Context = &ic },
	} {
		t.Run(differs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, newLedger(), "a")
				id := h.create(alice(), nil)
				c := alice()
				change(&c)
				h.unknown(id, c)
				if log := h.log.String(); !strings.Contains(log, `"differs":"`+differs+`"`) || !strings.Contains(log, id.Ref().String()) {
					t.Errorf("security log does not say what differs:\n%s", log)
				}
				if strings.Contains(h.log.String(), id.Reveal()) || strings.Contains(h.log.String(), "key-one") {
					t.Error("a secret is in the log")
				}
				h.acquire(id, alice()).Release()
			})
		})
	}
}

func TestUnknownSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		h := newHouse(t, l, "a")
		for _, id := range []journal.SessionID{"", "x", "../../etc/passwd", journal.SessionID(strings.Repeat("a", 10_000)), "\x00\r\n"} {
			h.unknown(id, alice())
		}
		id := h.create(alice(), nil)
		l.down.Store(true)
		_, err := h.Acquire(t.Context(), journal.NewSessionID(), alice())
		wantErr(t, err, journal.ErrUnavailable) // it may exist elsewhere
		h.acquire(id, alice()).Release()        // this one is known here
		l.down.Store(false)
		if err := h.Close(t.Context(), id.Ref(), journal.ReasonAdmin); err != nil {
			t.Fatal(err)
		}
		l.down.Store(true)
		h.unknown(id, alice()) // known to have ended
	})
}

func TestRotatedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		rt := &runtime{}
		id := h.create(alice(), rt)
		rotated := alice()
		rotated.Context = &engine.InstanceContext{N8nAPIURL: "https://one.example", N8nAPIKey: "key-new", InstanceID: "tenant-1"}
		l := h.acquire(id, rotated)
		defer l.Release()
		ic, err := l.Session().Context(t.Context())
		if err != nil || ic.N8nAPIKey != "key-new" {
			t.Errorf("context was not replaced: %v", err)
		}
		if _, err := l.Runtime(t.Context()); err != nil || h.waker.count() != 1 {
			t.Errorf("%d wakes, %v: the runtime holds the old key", h.waker.count(), err)
		}
		if rt.closed.Load() != 1 {
			t.Error("old runtime left open")
		}
		h.acquire(id, rotated).Release()
		before := h.vault.opened.Load()
		for range 10 {
			h.acquire(id, rotated).Release()
		}
		if n := h.vault.opened.Load() - before; n != 0 || h.pen.count(journal.KindChanged) != 1 {
			t.Errorf("vault opened %d times by requests that changed nothing, %d changed events", n, h.pen.count(journal.KindChanged))
		}
	})
}

func TestKeyOfACredentialPrincipalIsNotRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		c := alice()
		c.Principal = "credential:0123"
		id := h.create(c, nil)
		c.Context = &engine.InstanceContext{N8nAPIURL: "https://one.example", N8nAPIKey: "stolen", InstanceID: "tenant-1"}
		h.unknown(id, c)
		if n := h.pen.count(journal.KindChanged); n != 0 {
			t.Errorf("%d changed events", n)
		}
	})
}

// An owner who alternates between two keys is served, and does not fill the journal; a new key is taken over soon.
func TestAlternatingKeysAreDamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		id := h.create(alice(), nil)
		keyed := func(key string) engine.Caller {
			c := alice()
			c.Context = &engine.InstanceContext{N8nAPIURL: "https://one.example", N8nAPIKey: key, InstanceID: "tenant-1"}
			return c
		}
		for i := range 1000 {
			h.acquire(id, keyed([]string{"key-a", "key-b"}[i%2])).Release()
		}
		if n := h.pen.count(journal.KindChanged); n != 3 {
			t.Errorf("%d changed events", n)
		}
		time.Sleep(20 * time.Second)
		l := h.acquire(id, keyed("key-c"))
		defer l.Release()
		if ic, err := l.Session().Context(t.Context()); err != nil || ic.N8nAPIKey != "key-c" {
			t.Errorf("the new key is not taken over: %v", err)
		}
	})
}

// Whose key is rotated how: the same tenant, the same URL, the complete context.
func TestRotationIsTheOwnersAlone(t *testing.T) {
	with := func(change func(*engine.Caller, *engine.InstanceContext)) engine.Caller {
		c := alice()
		ic := *c.Context
		ic.N8nAPIKey = "key-new"
		c.Context = &ic
		change(&c, &ic)
		return c
	}
	for name, c := range map[string]engine.Caller{
		"another principal":     with(func(c *engine.Caller, _ *engine.InstanceContext) { c.Principal = "token:mallory" }),
		"another tenant":        with(func(c *engine.Caller, _ *engine.InstanceContext) { c.Tenant = journal.TenantID{9} }),
		"another URL":           with(func(c *engine.Caller, _ *engine.InstanceContext) { c.URLHash = journal.URLHash{9} }),
		"another instance":      with(func(_ *engine.Caller, ic *engine.InstanceContext) { ic.InstanceID = "tenant-9" }),
		"a credential's bearer": with(func(c *engine.Caller, _ *engine.InstanceContext) { c.Principal, c.Opaque = "credential:1", true }),
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, newLedger(), "a")
			id := h.create(alice(), nil)
			h.unknown(id, c)
			if n := h.pen.count(journal.KindChanged); n != 0 {
				t.Errorf("%s: %d changed events", name, n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		id := h.create(alice(), nil)
		half := with(func(_ *engine.Caller, ic *engine.InstanceContext) { ic.N8nAPIURL = "" })
		h.acquire(id, half).Release() // no context at all, then: it is let in by its token and changes nothing
		if n := h.pen.count(journal.KindChanged); n != 0 {
			t.Errorf("half a context: %d changed events", n)
		}
		h.acquire(id, with(func(*engine.Caller, *engine.InstanceContext) {})).Release()
		if n := h.pen.count(journal.KindChanged); n != 1 {
			t.Errorf("the owner: %d changed events", n)
		}
	})
}

// A credential that nobody here can check gives a lease that is good for asking the upstream, and no more.
func TestUnprovenCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		c := alice()
		c.Principal, c.Opaque = "credential:1", true
		id := h.create(c, nil)
		if l := h.acquire(id, c); l.Unproven() {
			t.Error("the owner is unproven")
		} else {
			l.Release()
		}
		next := c
		next.Principal = "credential:2"
		both := next
		both.Context = &engine.InstanceContext{N8nAPIURL: "https://one.example", N8nAPIKey: "another", InstanceID: "tenant-1"}
		h.unknown(id, both) // two things at once
		none := next
		none.Context = nil
		h.unknown(id, none)
		token := next
		token.Opaque = false // the gateway checks: a hash would be no principal
		h.unknown(id, token)
		l := h.acquire(id, next)
		defer l.Release()
		if !l.Unproven() || h.pen.count(journal.KindChanged) != 0 {
			t.Fatal("let in without a proof")
		}
		if err := l.Prove(t.Context(), next); err != nil || l.Unproven() {
			t.Fatal(err)
		}
		if l := h.acquire(id, next); l.Unproven() || h.pen.count(journal.KindChanged) != 1 {
			t.Error("the proof is not kept")
		} else {
			l.Release()
		}
	})
}

func TestExpiryIsExactOnAccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.SessionTimeout = 5 * time.Minute })
		id := h.create(alice(), nil)
		time.Sleep(5*time.Minute - time.Millisecond)
		h.acquire(id, alice()).Release() // without a request this is no access
		time.Sleep(time.Millisecond)
		h.unknown(id, alice())
		if n := h.pen.count(journal.KindExpired); n != 1 {
			t.Errorf("%d expired events, want 1", n)
		}
	})
}

func TestAccessSlidesExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", func(o *engine.Options) { o.SessionTimeout = 10 * time.Minute })
		id := h.create(alice(), nil)
		for range 10 {
			time.Sleep(9 * time.Minute)
			l := h.acquire(id, alice())
			c := l.Begin("tools/call", "list_workflows")
			time.Sleep(3 * time.Millisecond)
			c.End(journal.OutcomeOK)
			c.End(journal.OutcomeBroken) // only the first counts
			l.Release()
		}
		if st := h.List()[0]; st.Calls != 10 {
			t.Errorf("%d calls folded, want 10", st.Calls)
		}
		e := h.pen.events(journal.KindAccessed)[3]
		want := journal.Call{Number: 4, Method: "tools/call", Tool: "list_workflows", Outcome: journal.OutcomeOK, Duration: 3 * time.Millisecond}
		if e.Call != want || e.Epoch != 1 {
			t.Errorf("accessed event %+v", e)
		}
		if o := h.pen.events(journal.KindOpened)[3]; o.Call.Number != 4 || o.Call.Outcome != 0 {
			t.Errorf("opened event %+v", o)
		}
	})
}
