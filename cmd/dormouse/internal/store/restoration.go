package store

import (
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Restoration is what a restore brought back, and from where.
type Restoration struct {
	// Snapshot is the one that it began with; nil: it folded the whole journal.
	Snapshot *UsedSnapshot `json:"snapshot,omitempty"`
	// PassedOver are the newer snapshots that could not be used.
	PassedOver []PassedOver `json:"passedOver,omitempty"`
	// Restored sessions are there, dormant. Those that had timed out while nothing ran are counted as Expired alone,
	// and those whose tenant's key is lost as Damaged alone: they are closed.
	Restored int `json:"restored"`
	Expired  int `json:"expired"`
	Damaged  int `json:"damaged"`
	// Skipped are the events, in all of the journal, of kinds that this release does not know.
	Skipped uint64 `json:"skipped"`
	// Lost are the batches that an operator accepted as lost.
	Lost uint64 `json:"lost"`
}

// UsedSnapshot is where a restore began.
type UsedSnapshot struct {
	ID       string      `json:"id"`
	Seq      journal.Seq `json:"seq"`
	Sessions int         `json:"sessions"`
	Taken    time.Time   `json:"taken"`
}

// PassedOver is a snapshot that could not be used.
type PassedOver struct {
	ID  string      `json:"id"`
	Seq journal.Seq `json:"seq,omitempty"` // as far as it says so
	Why string      `json:"why"`
}

// Restoration tells what was restored, as it is at that time. Call it after ResolveOrphans.
func (s *Store) Restoration(now time.Time) Restoration {
	r := Restoration{Damaged: s.guard.orphaned}
	from := s.snapshots.restored
	if m := from.Manifest; m != nil {
		r.Snapshot = &UsedSnapshot{ID: m.ID.String(), Seq: m.Seq, Sessions: m.Sessions, Taken: m.Taken.Time()}
	}
	for _, p := range from.Passed {
		r.PassedOver = append(r.PassedOver, PassedOver{ID: p.ID.String(), Seq: p.Seq, Why: strings.Join(strings.Fields(p.Err.Error()), " ")})
	}
	s.Follower.View(func(st *replay.State) {
		for range st.Due(journal.InstantOf(now)) {
			r.Expired++
		}
		r.Restored = st.Len() - r.Expired
		stats := st.Stats()
		r.Skipped, r.Lost = stats.Unknown, stats.Lost
	})
	return r
}
