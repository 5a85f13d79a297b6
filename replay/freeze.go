package replay

import (
	"cmp"
	"slices"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Frozen is a state as it was at a moment, while the fold goes on. It shares the sessions with the state, which copies
// what it changes as long as the Frozen is held: 8 KiB at the first change on each page of 64 sessions. Safe for
// concurrent use. Release it when done.
type Frozen struct {
	ledger  Ledger
	pages   []*page
	order   []at
	release func()
}

// Freeze returns the state as it is now. It takes a time that hardly depends on the number of sessions: 8 bytes are
// copied for each 64 of them. The caller must exclude Apply, and readers, as for Apply itself.
func (s *State) Freeze() *Frozen {
	t := &s.table
	t.freezes++
	t.held.Add(1)
	held := t.held
	return &Frozen{
		ledger: s.ledger(), pages: slices.Clone(t.pages),
		release: sync.OnceFunc(func() { held.Add(-1) }),
	}
}

// Release tells that f is no longer read. It may be called again.
func (f *Frozen) Release() { f.release() }

// Ledger returns everything but the sessions. It must not be changed.
func (f *Frozen) Ledger() *Ledger { return &f.ledger }

// Arrange puts the sessions in the order of their positions. It must be called once before Session, and takes some
// tens of nanoseconds a session.
func (f *Frozen) Arrange() { f.order = byPosition(f.pages, len(f.pages)*pageSize) }

// Len returns the number of sessions.
func (f *Frozen) Len() int { return f.ledger.Sessions }

// Alike is comparable: sessions for which it is equal agree in source, timeout, tenant, label, URL hash,
// principal, keys, fingerprint, initialize parameters and protocol. Unequal ones may, too.
type Alike struct{ p *profile }

// Session returns the i-th session, from 0 on.
func (f *Frozen) Session(i int) (Session, Alike) {
	p := f.order[i].place
	r := &f.pages[p/pageSize][p%pageSize]
	return r.session(), Alike{r.profile}
}

// at is where a session is, in the log and in the table.
type at struct {
	position journal.Position
	place    place
}

func byPosition(pages []*page, used int) []at {
	list := make([]at, 0, used)
	for i, page := range pages {
		for j := range page {
			if r := &page[j]; r.profile != nil {
				list = append(list, at{position: r.position, place: place(i*pageSize + j)})
			}
		}
	}
	slices.SortFunc(list, func(a, b at) int {
		if c := cmp.Compare(a.position.Seq, b.position.Seq); c != 0 {
			return c
		}
		return cmp.Compare(a.position.Index, b.position.Index)
	})
	return list
}

// Freeze returns the follower's state as it is now, while it goes on. See [State.Freeze].
func (f *Follower) Freeze() *Frozen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Freeze()
}
