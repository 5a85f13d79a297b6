package engine_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Whatever is closed, expires, or is forgotten here meanwhile, no old export brings it back; what is restored is there
// once, and restoring again changes nothing. Time passes as it likes: up to beyond what the journal remembers.
func TestLawExportsResurrectNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(48 * time.Hour) // times before 1970 are invalid, and imports have a past
			l := newLedger()
			h := newHouse(t, l, "a", importing)
			elsewhere := newHouse(t, newLedger(), "b", importing)
			w := importWorld{t: t, l: l, houses: []*house{h, elsewhere}, gone: map[journal.Ref]bool{}}
			for range rapid.IntRange(5, 25).Draw(rt, "steps") {
				w.step(rt)
			}
		})
	})
}

type importWorld struct {
	t       *testing.T
	l       *ledger
	houses  []*house // the first is the one that is looked at
	ids     []journal.SessionID
	exports [][]engine.SessionState
	seen    map[journal.Ref]bool // present at the last look
	gone    map[journal.Ref]bool // present once, and not later
}

func (w *importWorld) step(t *rapid.T) {
	h := rapid.SampledFrom(w.houses).Draw(t, "house")
	switch rapid.SampledFrom([]string{"create", "create", "touch", "close", "sleep", "export", "restore", "restore"}).Draw(t, "step") {
	case "create":
		w.ids = append(w.ids, h.create(alice(), nil))
	case "touch":
		if len(w.ids) > 0 {
			id := rapid.SampledFrom(w.ids).Draw(t, "session")
			if l, err := h.Acquire(w.t.Context(), id, alice()); err == nil {
				l.Begin("tools/list", "").End(journal.OutcomeOK)
				l.Release()
			}
		}
	case "close":
		if len(w.ids) > 0 {
			id := rapid.SampledFrom(w.ids).Draw(t, "session")
			_ = h.Close(w.t.Context(), id.Ref(), journal.ReasonAdmin) // it may not be there
		}
	case "sleep":
		time.Sleep(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Minute, 31 * time.Minute, 3 * time.Hour}).Draw(t, "time"))
	case "export":
		states, err := h.ExportSessionState(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		w.exports = append(w.exports, states)
	case "restore":
		if len(w.exports) > 0 {
			w.restore(h, rapid.SampledFrom(w.exports).Draw(t, "export"))
		}
	}
	w.look()
}

// restore restores twice, which is once.
func (w *importWorld) restore(h *house, states []engine.SessionState) {
	before := h.SessionInfo().Sessions
	first := restore(w.t, h, states)
	after := h.SessionInfo().Sessions
	if first.Restored+first.Skipped.Total() != len(states) || after != before+first.Restored {
		w.t.Fatalf("%+v of %d; %d sessions became %d", first, len(states), before, after)
	}
	again := restore(w.t, h, states)
	if again.Restored != 0 || h.SessionInfo().Sessions != after {
		w.t.Fatalf("restored again: %+v", again)
	}
}

// look checks that what was gone is gone.
func (w *importWorld) look() {
	now := map[journal.Ref]bool{}
	w.l.mu.RLock()
	for s := range w.l.state.All() {
		now[s.Ref] = true
	}
	w.l.mu.RUnlock()
	for ref := range w.seen {
		w.gone[ref] = w.gone[ref] || !now[ref]
	}
	w.seen = now
	for _, ref := range slices.Collect(maps.Keys(now)) {
		if w.gone[ref] {
			w.t.Fatalf("session %v is back", ref)
		}
	}
}
