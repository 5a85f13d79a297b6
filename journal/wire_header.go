package journal

import (
	"encoding/binary"
	"fmt"
)

// AppendHeader appends the readable part of a stored message to dst: the version byte, the header's length
// and the header.
func AppendHeader(dst []byte, h *Header) []byte {
	version := byte(Version)
	if h.Alike {
		version = VersionAlike
	}
	dst, start := openMessage(dst, version) // framed like a field, with the version in the tag's place
	dst = append16(dst, headerJournal, (*[16]byte)(&h.Journal))
	dst = appendText(dst, headerKey, h.Key)
	dst = append16(dst, headerWriter, (*[16]byte)(&h.Writer))
	dst = appendNumber(dst, headerNumber, h.Number)
	dst = append32(dst, headerPrevious, (*[32]byte)(&h.Previous))
	dst = appendNumber(dst, headerBasisSeq, uint64(h.Basis.Seq))
	dst = append32(dst, headerBasisRoot, (*[32]byte)(&h.Basis.Root))
	dst = appendNumber(dst, headerFirst, uint64(h.First))
	dst = appendNumber(dst, headerLast, uint64(h.Last))
	dst = appendNumber(dst, headerCount, uint64(h.Count))
	dst = appendBytes(dst, headerRefs, h.Refs)
	return closeMessage(dst, start)
}

// ParseHeader reads the readable part of a stored message, without any key. The sealed part begins at
// data[sealedAt:]. The header's Refs are a part of data. It fails with ErrMalformed.
func ParseHeader(data []byte) (h Header, sealedAt int, err error) {
	if len(data) == 0 {
		return h, 0, fmt.Errorf("batch: %w: no bytes", ErrMalformed)
	}
	if data[0] != Version && data[0] != VersionAlike {
		return h, 0, fmt.Errorf("batch: %w: version %d, this release reads versions %d and %d", ErrMalformed, data[0], Version, VersionAlike)
	}
	h.Alike = data[0] == VersionAlike
	size, n := binary.Uvarint(data[1:])
	if n <= 0 || size > maxHeader || size > uint64(len(data)-1-n) {
		return h, 0, fmt.Errorf("batch: %w: length of the header", ErrMalformed)
	}
	r := wireReader{b: data, i: 1 + n, end: 1 + n + int(size)}
	sealedAt = r.end
	for r.more() {
		r.headerField(&h)
	}
	if r.err == nil {
		r.err = h.check()
	}
	if r.err != nil {
		return Header{}, 0, fmt.Errorf("batch header: %w", r.err)
	}
	return h, sealedAt, nil
}

func (r *wireReader) headerField(h *Header) {
	switch tag := r.number(); tag {
	case headerJournal:
		r.fixed(h.Journal[:])
	case headerKey:
		h.Key = KeyID(r.bytes())
	case headerWriter:
		r.fixed(h.Writer[:])
	case headerNumber:
		h.Number = r.number()
	case headerPrevious:
		r.fixed(h.Previous[:])
	case headerBasisSeq:
		h.Basis.Seq = Seq(r.number())
	case headerBasisRoot:
		r.fixed(h.Basis.Root[:])
	case headerFirst:
		h.First = Instant(r.number())
	case headerLast:
		h.Last = Instant(r.number())
	case headerCount:
		h.Count = uint32(r.count(MaxBatchEvents))
	case headerRefs:
		h.Refs = r.bytes()
	default:
		r.skip(tag)
	}
}

// check refuses what no writer writes.
func (h *Header) check() error {
	what := ""
	switch {
	case !h.Key.valid():
		what = "key ID"
	case h.Number == 0:
		what = "no batch number"
	case h.Count == 0:
		what = "no events"
	case h.First > h.Last:
		what = "first time after the last"
	case !h.Refs.valid():
		what = "size of the ref filter"
	default:
		return nil
	}
	return fmt.Errorf("%s: %w", what, ErrMalformed)
}

func (f RefFilter) valid() bool {
	n := len(f)
	return n == 0 || n >= minRefFilter && n <= maxRefFilter && n&(n-1) == 0
}

// valid reports whether the ID is empty or letters, digits and '-', not too many.
func (k KeyID) valid() bool {
	for i := range len(k) {
		c := k[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return len(k) <= maxKeyID
}
