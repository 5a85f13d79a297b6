package journal

import (
	"encoding/binary"
	"math/bits"
)

// The functions below append one Protobuf field each. Zero values are left out, as proto3 wants it.

func appendNumber(b []byte, tag byte, v uint64) []byte {
	switch {
	case v == 0:
		return b
	case v < 0x80:
		return append(b, tag, byte(v))
	default:
		return binary.AppendUvarint(append(b, tag), v)
	}
}

// appendZigzag appends an sint64.
func appendZigzag(b []byte, tag byte, v int64) []byte {
	return appendNumber(b, tag, uint64(v)<<1^uint64(v>>63))
}

func appendLength(b []byte, tag byte, n int) []byte {
	if n < 0x80 {
		return append(b, tag, byte(n))
	}
	return binary.AppendUvarint(append(b, tag), uint64(n))
}

func appendBytes(b []byte, tag byte, p []byte) []byte {
	if len(p) == 0 {
		return b
	}
	return append(appendLength(b, tag, len(p)), p...)
}

func appendText[S ~string](b []byte, tag byte, s S) []byte {
	if s == "" {
		return b
	}
	return append(appendLength(b, tag, len(s)), s...)
}

// appendList appends a repeated string, whose members may be empty.
func appendList[S ~string](b []byte, tag byte, list []S) []byte {
	for _, s := range list {
		b = append(appendLength(b, tag, len(s)), s...)
	}
	return b
}

func append8(b []byte, tag byte, v [8]byte) []byte {
	if v == [8]byte{} {
		return b
	}
	return append(append(b, tag, 8), v[:]...)
}

func append16(b []byte, tag byte, v *[16]byte) []byte {
	if *v == [16]byte{} {
		return b
	}
	return append(append(b, tag, 16), v[:]...)
}

func append32(b []byte, tag byte, v *[32]byte) []byte {
	if *v == [32]byte{} {
		return b
	}
	return append(append(b, tag, 32), v[:]...)
}

// openMessage begins a message inside a message and closeMessage ends it. One byte is kept for its length;
// the few messages that need more are moved, which costs less than measuring all of them beforehand.
func openMessage(b []byte, tag byte) (_ []byte, start int) {
	b = append(b, tag, 0)
	return b, len(b)
}

func closeMessage(b []byte, start int) []byte {
	n := len(b) - start
	if n < 0x80 {
		b[start-1] = byte(n)
		return b
	}
	more := (bits.Len64(uint64(n)) - 1) / 7
	for range more {
		b = append(b, 0)
	}
	copy(b[start+more:], b[start:start+n])
	binary.PutUvarint(b[start-1:], uint64(n))
	return b
}
