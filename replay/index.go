package replay

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/dormouse-mcp/dormouse/journal"
)

// index finds a ref's place. It is an open-addressing table with linear probing, in the order of the refs'
// hashes: a look-up costs one cache line here and one of the record, and growing reads no record.
type index struct {
	slots []slot // a power of two, at most three quarters full
	shift uint8  // 32 - log2(len(slots))
	count int
	seed  uint64 // keeps the order of one process from being worked out elsewhere
}

// slot is empty if its place is zero.
type slot struct {
	hash  uint32
	place uint32 // plus one
}

const minSlots = 64

// newIndex returns an index with room for n refs.
func newIndex(n int) index {
	slots := minSlots
	for 3*slots < 4*n {
		slots *= 2
	}
	seed := rand.Uint64() //nolint:gosec // no secret: nobody sees the order of the slots
	return index{slots: make([]slot, slots), shift: shiftFor(slots), seed: seed}
}

func shiftFor(slots int) uint8 { return uint8(33 - bits.Len(uint(slots))) }

func (x *index) hash(ref *journal.Ref) uint32 {
	lo, hi := binary.LittleEndian.Uint64(ref[:8]), binary.LittleEndian.Uint64(ref[8:])
	h, l := bits.Mul64(lo^x.seed, hi^0x9e3779b97f4a7c15)
	return uint32((h ^ l) >> 32)
}

// find returns the place of the ref, whose hash is h.
func (t *table) find(h uint32, ref *journal.Ref) (at int, p place, ok bool) {
	slots := t.index.slots
	mask := len(slots) - 1
	for i := int(h >> t.index.shift); ; i++ {
		s := slots[i&mask]
		if s.place == 0 {
			return 0, 0, false
		}
		if s.hash == h && t.at(place(s.place-1)).ref == *ref {
			return i & mask, place(s.place - 1), true
		}
	}
}

// put adds a ref that is not in the index.
func (x *index) put(h uint32, p place) {
	if 4*(x.count+1) > 3*len(x.slots) {
		x.grow()
	}
	x.count++
	x.insert(slot{hash: h, place: uint32(p) + 1})
}

func (x *index) insert(s slot) {
	mask := len(x.slots) - 1
	for i := int(s.hash >> x.shift); ; i++ {
		if at := &x.slots[i&mask]; at.place == 0 {
			*at = s
			return
		}
	}
}

func (x *index) grow() {
	old := x.slots
	x.slots = make([]slot, 2*len(old))
	x.shift = shiftFor(len(x.slots))
	for _, s := range old {
		if s.place != 0 {
			x.insert(s)
		}
	}
}

// remove empties a slot and moves those behind it that would not be found any more.
func (x *index) remove(at int) {
	mask := len(x.slots) - 1
	x.count--
	for i := at + 1; ; i++ {
		s := x.slots[i&mask]
		home := int(s.hash >> x.shift)
		if s.place == 0 {
			break
		}
		// s may move to the gap unless its home lies behind the gap, going round.
		if (i-home)&mask >= (i-at)&mask {
			x.slots[at&mask] = s
			at = i
		}
	}
	x.slots[at&mask] = slot{}
}

// warm touches what folding the events will touch. Their cache misses overlap here, where none waits for the
// fold of the event before.
func (t *table) warm(events []journal.Event) {
	var sum journal.Instant
	for i := range events {
		h := t.index.hash(&events[i].Ref)
		if s := t.index.slots[h>>t.index.shift]; s.hash == h && s.place != 0 {
			sum += t.at(place(s.place - 1)).lastAccess
		}
	}
	t.warmed = sum
}
