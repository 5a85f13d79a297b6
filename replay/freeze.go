package replay

import (
	"cmp"
	"slices"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Frozen is a state as it was at a moment, while the fold goes on. It shares the sessions with the state, which copies
// what it changes as long as the Frozen is held: under 2 KiB at the first change on each page of 32 sessions. Safe
// for concurrent use. Release it when done.
type Frozen struct {
	ledger   Ledger
	pages    []*page
	slabs    [][]byte
	profiles []*profile
	order    []at
	release  func()
}

// Freeze returns the state as it is now. It takes a time that hardly depends on the number of sessions: 8 bytes are
// copied for each 32 of them. The caller must exclude Apply, and readers, as for Apply itself.
func (s *State) Freeze() *Frozen {
	t := &s.table
	t.freezes++
	t.held.Add(1)
	held := t.held
	f := s.view()
	f.pages = slices.Clone(f.pages)
	f.release = sync.OnceFunc(func() { held.Add(-1) })
	return f
}

// view is a frozen state that holds until the next change.
func (s *State) view() *Frozen {
	t := &s.table
	return &Frozen{ledger: s.ledger(), pages: t.pages, slabs: t.arena.slabData(), profiles: t.profiles.list}
}

// Release tells that f is no longer read. It may be called again.
func (f *Frozen) Release() { f.release() }

// Ledger returns everything but the sessions. It must not be changed.
func (f *Frozen) Ledger() *Ledger { return &f.ledger }

// Arrange puts the sessions in the order of their positions. It must be called once before Row, and takes some
// tens of nanoseconds a session.
func (f *Frozen) Arrange() { f.order = byPosition(f.pages, f.ledger.Sessions) }

// Len returns the number of sessions.
func (f *Frozen) Len() int { return f.ledger.Sessions }

// Row is a session as a state holds it. Its body is shared and must not be changed.
type Row struct {
	Ref        journal.Ref
	Position   journal.Position
	CreatedAt  journal.Instant
	LastAccess journal.Instant
	Calls      uint64
	Common     int    // number of what it has in common with others
	Body       []byte // everything else, in its stored form, which docs/format.md describes
}

// Row returns the i-th session, from 0 on.
func (f *Frozen) Row(i int) Row {
	p := f.order[i].place
	r := &f.pages[p/pageSize][p%pageSize]
	return r.row(bodyBytes(f.slabs[r.body.slab()][r.body.offset():]))
}

func (r *record) row(stored []byte) Row {
	return Row{
		Ref: r.ref, Position: r.position.position(), CreatedAt: r.createdAt, LastAccess: r.lastAccess,
		Calls: uint64(r.calls), Common: int(r.profile), Body: stored,
	}
}

// Commons returns a bound of the numbers in rows.
func (f *Frozen) Commons() int { return len(f.profiles) }

// Common returns what rows of that number have in common: source, timeout, tenant, label, URL hash, principal, keys,
// fingerprint, initialize parameters and protocol. Rows of other numbers may agree, too. n must be from a row.
func (f *Frozen) Common(n int) Session { return f.profiles[n].session() }

// at is where a session is, in the log and in the table.
type at struct {
	position packedPosition
	place    place
}

func byPosition(pages []*page, sessions int) []at {
	list := make([]at, 0, sessions)
	sorted := true
	for i, page := range pages {
		for j := range page {
			if r := &page[j]; r.profile != 0 {
				sorted = sorted && (len(list) == 0 || list[len(list)-1].position < r.position)
				list = append(list, at{position: r.position, place: place(i*pageSize + j)})
			}
		}
	}
	if !sorted {
		slices.SortFunc(list, func(a, b at) int { return cmp.Compare(a.position, b.position) })
	}
	return list
}

// Freeze returns the follower's state as it is now, while it goes on. See [State.Freeze].
func (f *Follower) Freeze() *Frozen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Freeze()
}
