package seal

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// Of a zstd frame: RFC 8878, section 3.1.1.
const (
	frameMagic = 0xfd2fb528
	// frameSingle says that there is no window but the content, whose size follows in four bytes; no checksum.
	frameSingle  = 0b10_1_00_0_00
	blockHeader  = 3
	maxRawBlock  = 128 << 10
	blockLast    = 1
	blockRLE     = 1
	blockCorrupt = 3
)

// appendFrame appends to dst a frame of the given size: the blocks of another frame, whose content comes first, and
// then raw as it is, which is not empty. It reports false if the other frame is not as expected.
func appendFrame(dst, other []byte, size int, raw []byte) ([]byte, bool) {
	var h zstd.Header
	if h.Decode(other) != nil || h.HasCheckSum || h.DictionaryID != 0 {
		return dst, false
	}
	dst = binary.LittleEndian.AppendUint32(dst, frameMagic)
	dst = binary.LittleEndian.AppendUint32(append(dst, frameSingle), uint32(size))
	from := len(dst)
	dst = append(dst, other[h.HeaderSize:]...)
	if !openBlocks(dst[from:]) {
		return dst[:from], false
	}
	for len(raw) > 0 {
		n := min(len(raw), maxRawBlock)
		head := uint32(n) << 3
		if n == len(raw) {
			head |= blockLast
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, raw[:n]...)
		raw = raw[n:]
	}
	return dst, true
}

// openBlocks takes the mark from the last one of a frame's blocks, so that others can follow.
func openBlocks(b []byte) bool {
	for len(b) >= blockHeader {
		head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		n := int(head >> 3)
		switch head >> 1 & 3 {
		case blockRLE:
			n = 1
		case blockCorrupt:
			return false
		}
		if head&blockLast != 0 {
			b[0] &^= blockLast
			return len(b) == blockHeader+n
		}
		if n > len(b)-blockHeader {
			return false
		}
		b = b[blockHeader+n:]
	}
	return false
}
