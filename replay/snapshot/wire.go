package snapshot

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/dormouse-mcp/dormouse/journal"
)

func appendZigzag(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v)<<1^uint64(v>>63))
}

func appendText[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader reads what the functions above wrote. The first error stays, and everything after it is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("snapshot: %w: %s", journal.ErrMalformed, what)
	}
	r.b = nil
}

func (r *reader) number() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("broken number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) zigzag() int64 {
	v := r.number()
	return int64(v>>1) ^ -int64(v&1)
}

// count reads how many things of at least that many bytes follow.
func (r *reader) count(least int) int {
	n := r.number()
	if n > uint64(len(r.b)/least) {
		r.fail("a count beyond the end")
		return 0
	}
	return int(n)
}

// below reads a number below limit.
func (r *reader) below(limit int) int {
	n := r.number()
	if n >= uint64(limit) {
		r.fail("a number out of range")
		return 0
	}
	return int(n)
}

// bytes returns the next n bytes, which are a part of what is read.
func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("cut off")
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) text() string {
	s := string(r.bytes(r.count(1)))
	if !utf8.ValidString(s) {
		r.fail("text that is not UTF-8")
	}
	return s
}

func (r *reader) fixed(dst []byte) {
	copy(dst, r.bytes(len(dst)))
}

// end checks that everything was read.
func (r *reader) end() error {
	if len(r.b) > 0 {
		r.fail("bytes left over")
	}
	return r.err
}
