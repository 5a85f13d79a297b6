package replay

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/dormouse-mcp/dormouse/journal"
)

// index finds a ref's place. It is an open-addressing table with linear probing, in the order of the refs' hashes. A
// slot of four bytes holds a place and those bits of the hash that do not say where the slot is: a look-up costs one
// cache line here and, but for rare accidents, one of the record.
type index struct {
	// slots are a power of two, at most three quarters of them full. Zero is empty; else the upper bits are the
	// lower ones of the hash, the lower ones the place plus one.
	slots []uint32
	bits  uint8 // log2(len(slots))
	count int
	seed  uint64 // keeps the order of one process from being worked out elsewhere
}

const minSlots = 64

// newIndex returns an index with room for n refs.
func newIndex(n int) index {
	slots := minSlots
	for 3*slots < 4*n {
		slots *= 2
	}
	return index{slots: make([]uint32, slots), bits: uint8(bits.Len(uint(slots)) - 1), seed: rand.Uint64()} //nolint:gosec // no secret: nobody sees the order of the slots
}

func (x *index) hash(ref *journal.Ref) uint32 { return hashRef(ref, x.seed) }

func hashRef(ref *journal.Ref, seed uint64) uint32 {
	lo, hi := binary.LittleEndian.Uint64(ref[:8]), binary.LittleEndian.Uint64(ref[8:])
	h, l := bits.Mul64(lo^seed, hi^0x9e3779b97f4a7c15)
	return uint32((h ^ l) >> 32)
}

// home is where a hash's slot would be best.
func (x *index) home(h uint32) int { return int(h >> (32 - x.bits)) }

func (x *index) slot(h uint32, p place) uint32 { return h<<x.bits | (uint32(p) + 1) }

// place returns the place in a slot that is not empty.
func (x *index) place(slot uint32) place { return place(slot&(1<<x.bits-1) - 1) }

// same reports whether a slot that is not empty may be of a ref of that hash.
func (x *index) same(slot, h uint32) bool { return (slot^h<<x.bits)>>x.bits == 0 }

// find returns the place of the ref, whose hash is h.
func (t *table) find(h uint32, ref *journal.Ref) (at int, p place, ok bool) {
	x := &t.index
	mask := len(x.slots) - 1
	for i := x.home(h); ; i++ {
		s := x.slots[i&mask]
		if s == 0 {
			return 0, 0, false
		}
		if x.same(s, h) && t.at(x.place(s)).ref == *ref {
			return i & mask, x.place(s), true
		}
	}
}

// put adds the ref at p, whose hash is h and which is not in the index.
func (t *table) put(h uint32, p place) {
	x := &t.index
	x.count++
	if 4*x.count > 3*len(x.slots) || int(p)+1 >= len(x.slots) {
		t.grow(max(4*x.count/3, int(p)+2))
		return
	}
	x.insert(h, p)
}

func (x *index) insert(h uint32, p place) {
	mask := len(x.slots) - 1
	for i := x.home(h); ; i++ {
		if at := &x.slots[i&mask]; *at == 0 {
			*at = x.slot(h, p)
			return
		}
	}
}

// grow makes an index of more slots than that, in which all records are.
func (t *table) grow(least int) {
	x := &t.index
	slots := len(x.slots)
	for slots <= least {
		slots *= 2
	}
	x.slots, x.bits = make([]uint32, slots), uint8(bits.Len(uint(slots))-1)
	for i, page := range t.pages {
		for j := range page {
			if r := &page[j]; r.profile != 0 {
				x.insert(x.hash(&r.ref), place(i*pageSize+j))
			}
		}
	}
}

// unindex empties a slot and moves those behind it that would not be found any more. The records are still there.
func (t *table) unindex(at int) {
	x := &t.index
	mask := len(x.slots) - 1
	x.count--
	for i := at + 1; ; i++ {
		s := x.slots[i&mask]
		if s == 0 {
			break
		}
		home := x.home(x.hash(&t.at(x.place(s)).ref))
		// s may move to the gap unless its home lies behind the gap, going round.
		if (i-home)&mask >= (i-at)&mask {
			x.slots[at&mask] = s
			at = i
		}
	}
	x.slots[at&mask] = 0
}

// warmSlots touches the slots of hashes that will be put, so that their cache misses overlap.
func (t *table) warmSlots(hashes []uint32) {
	var sum uint32
	for _, h := range hashes {
		sum += t.index.slots[t.index.home(h)]
	}
	t.warmed = journal.Instant(sum)
}

// warm touches what folding the events will touch. Their cache misses overlap here, where none waits for the
// fold of the event before.
func (t *table) warm(events []journal.Event) {
	var sum journal.Instant
	x := &t.index
	for i := range events {
		h := x.hash(&events[i].Ref)
		if s := x.slots[x.home(h)]; s != 0 && x.same(s, h) {
			sum += t.at(x.place(s)).lastAccess
		}
	}
	t.warmed = sum
}
