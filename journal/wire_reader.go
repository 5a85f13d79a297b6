package journal

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// wireReader reads Protobuf fields from b[i:end]. The first error stays, and ends every loop over more.
type wireReader struct {
	b   []byte
	s   string // the same bytes, so that texts need no allocation of their own
	i   int
	end int
	err error
}

func (r *wireReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s at byte %d: %w", what, r.i, ErrMalformed)
	}
	r.i = r.end
}

func (r *wireReader) more() bool { return r.i < r.end && r.err == nil }

func (r *wireReader) number() uint64 {
	if i := r.i; i < r.end && i < len(r.b) && r.b[i] < 0x80 {
		r.i++
		return uint64(r.b[i])
	}
	return r.longNumber()
}

func (r *wireReader) longNumber() uint64 {
	v, n := binary.Uvarint(r.b[r.i:r.end])
	if n <= 0 {
		r.fail("broken number")
		return 0
	}
	r.i += n
	return v
}

func (r *wireReader) zigzag() int64 {
	v := r.number()
	return int64(v>>1) ^ -int64(v&1)
}

// small reads a number that must fit into a byte.
func (r *wireReader) small() uint8 {
	v := r.number()
	if v > 255 {
		r.fail("value out of range")
	}
	return uint8(v)
}

// count reads a number of milliseconds or the like that must not pass limit.
func (r *wireReader) count(limit uint64) uint64 {
	v := r.number()
	if v > limit {
		r.fail("value out of range")
		return 0
	}
	return v
}

// span reads a length and steps over that many bytes.
func (r *wireReader) span() (from, to int) {
	n := r.number()
	if n > uint64(r.end-r.i) {
		r.fail("length beyond the end")
		return r.i, r.i
	}
	from = r.i
	r.i += int(n)
	return from, r.i
}

// bytes returns a part of b itself, nil when it is empty.
func (r *wireReader) bytes() []byte {
	from, to := r.span()
	if from == to {
		return nil
	}
	return r.b[from:to:to]
}

func (r *wireReader) text() string {
	from, to := r.span()
	s := r.s[from:to]
	if !utf8.ValidString(s) {
		r.fail("text that is not UTF-8")
	}
	return s
}

// fixed reads a name or hash whose length is given.
func (r *wireReader) fixed(dst []byte) {
	from, to := r.span()
	if to-from != len(dst) {
		r.fail("wrong length of a name or hash")
		return
	}
	copy(dst, r.b[from:to])
}

// enter begins a message inside a message; leave, with what enter returned, ends it.
func (r *wireReader) enter() (outer int) {
	from, to := r.span()
	outer, r.i, r.end = r.end, from, to
	return outer
}

func (r *wireReader) leave(outer int) { r.end = outer }

// skip steps over a field that this release does not know.
func (r *wireReader) skip(tag uint64) {
	switch {
	case tag < 1<<3 || tag >= 1<<32:
		r.fail("field number out of range")
	case tag&7 == wireVarint:
		r.number()
	case tag&7 == wireBytes:
		r.span()
	case tag&7 == wireFixed32:
		r.advance(4)
	case tag&7 == wireFixed64:
		r.advance(8)
	default:
		r.fail("unknown wire type")
	}
}

func (r *wireReader) advance(n int) {
	if n > r.end-r.i {
		r.fail("field beyond the end")
		return
	}
	r.i += n
}
