package replay

import (
	"iter"
	"slices"
	"sync/atomic"

	"github.com/dormouse-mcp/dormouse/journal"
)

// pageSize is how many records are allocated at once, and copied at once while a [Frozen] is held. 32 of 56 bytes
// are exactly what Go allocates.
const pageSize = 32

// place names a record in a table. Places of removed records are used again.
type place uint32

// table holds the records: pages, an index, an arena for what is not in the records, and the due pages.
//
// A frozen table shares pages and slabs: while one is held, a record is changed only after own has replaced its page
// by a copy, if that page is older than the freeze.
type table struct {
	index index
	pages []*page
	arena arena
	free  []place
	used  int // places ever handed out
	due   due

	freezes uint32        // how many there were
	held    *atomic.Int32 // how many frozen tables are still read
	since   []uint32      // for each page: freezes when it was made

	profiles *profiles

	warmed journal.Instant // of no meaning: it keeps the compiler from leaving warm out
}

type page [pageSize]record

func newTable(p *profiles) table {
	return table{index: newIndex(0), arena: newArena(), due: newDue(), held: p.held, profiles: p}
}

func (t *table) at(p place) *record { return &t.pages[p/pageSize][p%pageSize] }

func (t *table) get(ref journal.Ref) (*record, bool) {
	_, p, ok := t.find(t.index.hash(&ref), &ref)
	if !ok {
		return nil, false
	}
	return t.at(p), true
}

// own is get for who wants to change the record. A pointer from an earlier get is stale afterwards.
func (t *table) own(ref journal.Ref) (*record, place, bool) {
	_, p, ok := t.find(t.index.hash(&ref), &ref)
	if !ok {
		return nil, 0, false
	}
	return t.writable(p), p, true
}

// writable returns the record at p on a page that no frozen table shares.
func (t *table) writable(p place) *record {
	if i := p / pageSize; t.since[i] < t.freezes && t.held.Load() > 0 {
		mine := *t.pages[i]
		t.pages[i], t.since[i] = &mine, t.freezes
	}
	return t.at(p)
}

// body reads what the arena holds of a record.
func (t *table) body(r *record) (b body) {
	b.decode(t.arena.at(r.body))
	return b
}

// rewrite gives the record at p, which is writable, another body. r is stale afterwards.
func (t *table) rewrite(r *record, p place, b *body) {
	old := r.body
	r.body = t.arena.put(b, p)
	t.arena.drop(old)
	t.settle()
}

// epoch returns the epoch of a session's binding.
func (t *table) epoch(r *record) journal.Epoch {
	if e := r.body & bigEpoch; e != bigEpoch {
		return journal.Epoch(e)
	}
	return t.body(r).epoch
}

// add takes in a record whose ref is not there, whose last access and profile are set, and its body.
func (t *table) add(r *record, b *body) {
	p := t.allocate()
	r.body = t.arena.put(b, p)
	*t.writable(p) = *r
	t.put(t.index.hash(&r.ref), p)
	t.scheduleAt(p, t.expires(r))
	t.settle()
}

func (t *table) allocate() place {
	if n := len(t.free); n > 0 {
		p := t.free[n-1]
		t.free = t.free[:n-1]
		return p
	}
	if t.used == len(t.pages)*pageSize {
		t.addPage(new(page))
	}
	t.used++
	return place(t.used - 1)
}

func (t *table) addPage(p *page) {
	t.pages = append(t.pages, p)
	t.since = append(t.since, t.freezes)
	t.due.pages = append(t.due.pages, duePage{})
}

func (t *table) remove(ref journal.Ref) {
	at, p, ok := t.find(t.index.hash(&ref), &ref)
	if !ok {
		return
	}
	t.unindex(at)
	r := t.writable(p)
	t.arena.drop(r.body)
	*r = record{}
	t.free = append(t.free, p)
	t.removed(p)
	t.settle()
}

func (t *table) expires(r *record) journal.Instant {
	return r.lastAccess.Add(t.profiles.at(r.profile).timeout)
}

// records yields all records as they lie in memory.
func (t *table) records() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, page := range t.pages {
			for i := range page {
				if r := &page[i]; r.profile != 0 && !yield(r) {
					return
				}
			}
		}
	}
}

// refs returns the refs of all records in order.
func (t *table) refs() []journal.Ref {
	refs := make([]journal.Ref, 0, t.index.count)
	for r := range t.records() {
		refs = append(refs, r.ref)
	}
	slices.SortFunc(refs, compareRefs)
	return refs
}

// all yields the records by ref.
func (t *table) all() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, ref := range t.refs() {
			if r, ok := t.get(ref); ok && !yield(r) {
				return
			}
		}
	}
}
