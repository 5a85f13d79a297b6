package replay

import (
	"iter"
	"slices"
	"sync/atomic"

	"github.com/dormouse-mcp/dormouse/journal"
)

// pageSize is how many records are allocated at once, and copied at once while a [Frozen] is held: 8 KiB,
// about a microsecond.
const pageSize = 64

// place names a record in a table. Places of removed records are used again.
type place uint32

// table holds the records: pages, an index without pointers, and the due buckets, whose entries are places.
//
// A frozen table shares the pages: while one is held, a record is changed only after own has replaced its page by a
// copy, if that page is older than the freeze. A record's bucket and slot are the table's own, say nothing of the
// session, and are changed in place; nobody reads them in a frozen page.
type table struct {
	index index
	pages []*page
	free  []place
	used  int // places ever handed out
	due   due

	freezes uint32        // how many there were
	held    *atomic.Int32 // how many frozen tables are still read
	since   []uint32      // for each page: freezes when it was made

	warmed journal.Instant // of no meaning: it keeps the compiler from leaving warm out
}

type page [pageSize]record

func newTable() table {
	return table{index: newIndex(0), due: newDue(), held: new(atomic.Int32)}
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
func (t *table) own(ref journal.Ref) (*record, bool) {
	_, p, ok := t.find(t.index.hash(&ref), &ref)
	if !ok {
		return nil, false
	}
	return t.writable(p), true
}

// writable returns the record at p on a page that no frozen table shares.
func (t *table) writable(p place) *record {
	if i := p / pageSize; t.since[i] < t.freezes && t.held.Load() > 0 {
		mine := *t.pages[i]
		t.pages[i], t.since[i] = &mine, t.freezes
	}
	return t.at(p)
}

// add takes in a record, whose last access and profile are set.
func (t *table) add(r record) {
	p := t.allocate()
	t.index.put(t.index.hash(&r.ref), p)
	*t.writable(p) = r
	t.schedule(p)
}

func (t *table) allocate() place {
	if n := len(t.free); n > 0 {
		p := t.free[n-1]
		t.free = t.free[:n-1]
		return p
	}
	if t.used == len(t.pages)*pageSize {
		t.pages = append(t.pages, new(page))
		t.since = append(t.since, t.freezes)
	}
	t.used++
	return place(t.used - 1)
}

func (t *table) remove(ref journal.Ref) {
	at, p, ok := t.find(t.index.hash(&ref), &ref)
	if !ok {
		return
	}
	t.unschedule(p)
	t.index.remove(at)
	*t.writable(p) = record{}
	t.free = append(t.free, p)
}

// records yields all records as they lie in memory.
func (t *table) records() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, page := range t.pages {
			for i := range page {
				if r := &page[i]; r.profile != nil && !yield(r) {
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
