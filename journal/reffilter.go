package journal

import "math/bits"

// RefFilter tells, without opening a batch, whether a session may have an event in it: a Bloom filter
// with three probes of about ten bits a ref, so that about one batch in fifty is opened in vain. A Ref is
// uniformly distributed already, so its own bytes are the hash.
type RefFilter []byte

// MakeRefFilter returns a filter of the refs; refs for the record (zero) are left out. Its size is a power
// of two between 8 and 2048 bytes; with nothing to hold it is nil.
func MakeRefFilter(events []Event) RefFilter {
	n := 0
	for i := range events {
		if !events[i].Ref.IsZero() {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	size := min(max(1<<bits.Len(uint((n*10-1)/8)), 8), 2048)
	f := make(RefFilter, size)
	for i := range events {
		if !events[i].Ref.IsZero() {
			f.add(events[i].Ref)
		}
	}
	return f
}

func (f RefFilter) probes(r Ref) (at [3]uint32) {
	mask := uint32(len(f)*8 - 1)
	for i := range at {
		at[i] = (uint32(r[4*i]) | uint32(r[4*i+1])<<8 | uint32(r[4*i+2])<<16 | uint32(r[4*i+3])<<24) & mask
	}
	return at
}

func (f RefFilter) add(r Ref) {
	for _, p := range f.probes(r) {
		f[p/8] |= 1 << (p % 8)
	}
}

// MayHold reports false only if no event of r is in the batch.
func (f RefFilter) MayHold(r Ref) bool {
	if len(f) == 0 {
		return false
	}
	for _, p := range f.probes(r) {
		if f[p/8]&(1<<(p%8)) == 0 {
			return false
		}
	}
	return true
}
