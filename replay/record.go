package replay

import "github.com/dormouse-mcp/dormouse/journal"

// record is how a State holds a session: what changes often and what it is found by. It never leaves the package and
// has no pointers, so that a million of them are nothing to the garbage collector. What sessions have in common is in
// profiles, everything else in the arena.
type record struct {
	ref        journal.Ref
	lastAccess journal.Instant
	createdAt  journal.Instant
	position   packedPosition
	body       location
	profile    profileID // zero: the place is free
	calls      uint32    // stays at its greatest value
}

// packedPosition is a position in eight bytes. It compares as positions do.
type packedPosition uint64

const (
	indexBits = 16
	maxIndex  = 1<<indexBits - 1 // far above journal.MaxBatchEvents
	maxSeq    = 1<<(64-indexBits) - 1
)

func packPosition(p journal.Position) packedPosition {
	return packedPosition(uint64(p.Seq)<<indexBits | uint64(p.Index))
}

func (p packedPosition) position() journal.Position {
	return journal.Position{Seq: journal.Seq(p >> indexBits), Index: uint32(p & maxIndex)}
}

// location is where a session's body is in the arena, and its epoch as far as it fits: an access need not read the
// body for it.
//
//	slab, 20 bits | offset, 20 bits | epoch, 24 bits
type location uint64

const (
	epochBits  = 24
	offsetBits = 20
	maxOffset  = 1<<offsetBits - 1
	maxSlabs   = 1 << (64 - epochBits - offsetBits)
	bigEpoch   = 1<<epochBits - 1 // or more: the body says
)

func locationOf(slab, offset int) location {
	return location(uint64(slab)<<(offsetBits+epochBits) | uint64(offset)<<epochBits)
}

func (l location) slab() int   { return int(l >> (offsetBits + epochBits)) }
func (l location) offset() int { return int(l >> epochBits & maxOffset) }

func (l location) withEpoch(e journal.Epoch) location {
	return l&^bigEpoch | location(min(uint64(e), bigEpoch))
}
