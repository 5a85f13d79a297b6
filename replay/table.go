package replay

import (
	"iter"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// pageSize is how many records are allocated at once.
const pageSize = 512

// place names a record in a table. Places of removed records are used again.
type place uint32

// table holds the records: pages that never move, an index without pointers, and the due buckets, whose
// entries are places.
type table struct {
	index map[journal.Ref]place
	pages []*[pageSize]record
	free  []place
	used  int // places ever handed out
	due   due
}

func newTable() table {
	return table{index: make(map[journal.Ref]place), due: newDue()}
}

func (t *table) at(p place) *record { return &t.pages[p/pageSize][p%pageSize] }

func (t *table) get(ref journal.Ref) (*record, bool) {
	p, ok := t.index[ref]
	if !ok {
		return nil, false
	}
	return t.at(p), true
}

// add takes in a record, whose last access and profile are set.
func (t *table) add(r record) {
	p := t.allocate()
	t.index[r.ref] = p
	*t.at(p) = r
	t.schedule(p)
}

func (t *table) allocate() place {
	if n := len(t.free); n > 0 {
		p := t.free[n-1]
		t.free = t.free[:n-1]
		return p
	}
	if t.used == len(t.pages)*pageSize {
		t.pages = append(t.pages, new([pageSize]record))
	}
	t.used++
	return place(t.used - 1)
}

func (t *table) remove(ref journal.Ref) {
	p := t.index[ref]
	t.unschedule(p)
	delete(t.index, ref)
	*t.at(p) = record{}
	t.free = append(t.free, p)
}

// refs returns the refs of all records in order.
func (t *table) refs() []journal.Ref {
	refs := make([]journal.Ref, 0, len(t.index))
	for ref := range t.index {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, compareRefs)
	return refs
}

// all yields the records by ref.
func (t *table) all() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, ref := range t.refs() {
			if !yield(t.at(t.index[ref])) {
				return
			}
		}
	}
}
