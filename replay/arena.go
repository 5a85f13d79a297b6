package replay

// A slab holds the bodies of many sessions, one after the other. What was written is never changed: a body that
// becomes another one is written anew, and a [Frozen] can share the slabs.
type slab struct {
	data []byte // its capacity is what was allocated
	live int    // bytes of bodies that are in use
	runs []run  // the places of the bodies, those included that have ended or moved since
}

// run is a number of places in a row.
type run struct{ first, places uint32 }

const (
	// slabBytes is how large slabs become in a large table, and about how large a snapshot's chunks are.
	slabBytes = 512 << 10
	minSlab   = 2 << 10

	// ownSlab is from which size on a body gets a slab of its own.
	ownSlab = slabBytes / 4
)

// arena holds the bodies of a table's sessions. Its garbage is bounded: whatever slab is filled and then
// falls below half in use is emptied, so that all of them take at most twice what is in use, and one slab.
type arena struct {
	slabs    []slab
	current  int      // where new bodies go; -1: nowhere yet
	vacant   []uint32 // numbers of slabs that were emptied
	suspects []uint32 // slabs that may have to be emptied
	size     int      // bytes allocated
	live     int      // bytes in use
}

func newArena() arena { return arena{current: -1} }

// at returns the stored form of the body.
func (a *arena) at(l location) []byte { return bodyBytes(a.slabs[l.slab()].data[l.offset():]) }

// put stores the body of the session at p.
func (a *arena) put(b *body, p place) location {
	size := b.size()
	s, l := a.room(uvarintLen(uint64(size))+size, p)
	s.data = b.append(s.data, size)
	return l.withEpoch(b.epoch)
}

// move stores a copy of the stored form at p.
func (a *arena) move(stored []byte, p place, from location) location {
	s, l := a.room(len(stored), p)
	s.data = append(s.data, stored...)
	return l | from&bigEpoch
}

// room finds a slab in which n more bytes fit, which the caller appends.
func (a *arena) room(n int, p place) (*slab, location) {
	i := a.current
	switch {
	case n > ownSlab:
		i = a.add(slab{data: make([]byte, 0, n)})
	case i < 0 || cap(a.slabs[i].data)-len(a.slabs[i].data) < n || len(a.slabs[i].data) > maxOffset:
		if i >= 0 {
			a.suspects = append(a.suspects, uint32(i))
		}
		i = a.add(slab{data: make([]byte, 0, max(n, min(slabBytes, max(minSlab, a.live))))})
		a.current = i
	}
	s := &a.slabs[i]
	s.note(p)
	s.live += n
	a.live += n
	return s, locationOf(i, len(s.data))
}

func (s *slab) note(p place) {
	if n := len(s.runs); n > 0 && s.runs[n-1].first+s.runs[n-1].places == uint32(p) {
		s.runs[n-1].places++
		return
	}
	s.runs = append(s.runs, run{first: uint32(p), places: 1})
}

// add takes in a slab and returns its number.
func (a *arena) add(s slab) int {
	a.size += cap(s.data)
	a.live += s.live
	if n := len(a.vacant); n > 0 {
		i := a.vacant[n-1]
		a.vacant = a.vacant[:n-1]
		a.slabs[i] = s
		return int(i)
	}
	a.slabs = append(a.slabs, s)
	return len(a.slabs) - 1
}

// drop tells that a body is not in use any more.
func (a *arena) drop(l location) {
	i := l.slab()
	n := len(a.at(l))
	a.slabs[i].live -= n
	a.live -= n
	if i != a.current && a.sparse(i) {
		a.suspects = append(a.suspects, uint32(i))
	}
}

func (a *arena) sparse(i int) bool { return 2*a.slabs[i].live < cap(a.slabs[i].data) }

// settle empties slabs that are used by less than half. It may replace pages; call it where nobody holds a record.
func (t *table) settle() {
	a := &t.arena
	for len(a.suspects) > 0 {
		i := int(a.suspects[len(a.suspects)-1])
		a.suspects = a.suspects[:len(a.suspects)-1]
		if i == a.current || a.slabs[i].data == nil || !a.sparse(i) {
			continue
		}
		for _, run := range a.slabs[i].runs {
			for p := run.first; p < run.first+run.places; p++ {
				t.evacuate(place(p), i)
			}
		}
		a.size -= cap(a.slabs[i].data)
		a.slabs[i] = slab{}
		a.vacant = append(a.vacant, uint32(i))
	}
}

// evacuate moves the body of the session at p, if it is in that slab.
func (t *table) evacuate(p place, from int) {
	r := t.at(p)
	if r.profile == 0 || r.body.slab() != from {
		return
	}
	a := &t.arena
	stored := a.at(r.body)
	to := a.move(stored, p, r.body)
	a.live -= len(stored)
	t.writable(p).body = to
}

// slabData returns the slabs' contents as they are now.
func (a *arena) slabData() [][]byte {
	data := make([][]byte, len(a.slabs))
	for i := range a.slabs {
		data[i] = a.slabs[i].data
	}
	return data
}
