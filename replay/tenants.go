package replay

import (
	"iter"

	"github.com/dormouse-mcp/dormouse/journal"
)

// TenantSessions returns the sessions of one tenant, by ref. It walks through all sessions.
func (s *State) TenantSessions(t journal.TenantID) []Session {
	if s.directory.sessions(t) == 0 {
		return nil
	}
	list := make([]Session, 0, s.directory.sessions(t))
	for _, ref := range s.refsOf(t) {
		if r, ok := s.table.get(ref); ok {
			list = append(list, s.table.session(r))
		}
	}
	return list
}

// Groups yields what sessions have in common, see [Frozen.Common], and how many have it, in no order. Groups may agree.
// It costs what there are groups, not sessions.
func (s *State) Groups() iter.Seq2[Session, int] {
	return func(yield func(Session, int) bool) {
		for _, p := range s.directory.profiles.list {
			if p != nil && p.sessions > 0 && !yield(p.session(), p.sessions) {
				return
			}
		}
	}
}

// ErasedKeys yields the data keys that were erased, in no order.
func (s *State) ErasedKeys() iter.Seq2[journal.TenantID, journal.KeyID] {
	return func(yield func(journal.TenantID, journal.KeyID) bool) {
		for t, keys := range s.erased {
			for k := range keys {
				if !yield(t, k) {
					return
				}
			}
		}
	}
}
