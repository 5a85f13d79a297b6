package replay

import "github.com/dormouse-mcp/dormouse/journal"

// AppendRefs appends the refs of all sessions to dst, in no order. It costs some tens of nanoseconds a
// session, so that who needs all of them can let go of the state before it looks at each.
func (s *State) AppendRefs(dst []journal.Ref) []journal.Ref {
	for r := range s.table.records() {
		dst = append(dst, r.ref)
	}
	return dst
}

// Oldest returns when the oldest session was created; zero if there is none. It walks through all of
// them, at some nanoseconds each.
func (s *State) Oldest() (oldest journal.Instant) {
	for _, page := range s.table.pages {
		for i := range page {
			if at := page[i].createdAt; at != 0 && (oldest == 0 || at < oldest) {
				oldest = at
			}
		}
	}
	return oldest
}

// Folded returns how many events were folded, refused ones included. It costs nothing.
func (s *State) Folded() uint64 { return s.counters.events }
