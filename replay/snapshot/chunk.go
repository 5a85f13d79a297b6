package snapshot

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

// maxMeta bounds what the metadata of one chunk may unpack to.
const maxMeta = 64 << 20

// chunkHead is the readable part of a chunk: a version byte, its number and the key's ID.
func chunkHead(dst []byte, number int, key journal.KeyID) []byte {
	return appendText(binary.AppendUvarint(append(dst, version), uint64(number)), string(key))
}

// bound ties a chunk to its journal, its snapshot and its place.
func bound(head []byte, m *Manifest) []byte {
	b := append([]byte("dormouse chunk\x00"), head...)
	return append(append(b, m.Journal[:]...), m.ID[:]...)
}

// sumSize is that of an AES-GCM tag.
const sumSize = 16

// sumOf returns what stands for a chunk in the manifest: its tag, which opening it has checked over all of it. Another
// digest of the same bytes would cost as much as the rest of the load.
func sumOf(data []byte) (sum [sumSize]byte) {
	copy(sum[:], data[max(0, len(data)-sumSize):])
	return sum
}

// packer makes chunks. Not safe for concurrent use.
type packer struct {
	manifest *Manifest
	sealer   Sealer
	zstd     *zstd.Encoder
	plain    []byte
	packed   []byte
}

func newPacker(m *Manifest, s Sealer) (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &packer{manifest: m, sealer: s, zstd: enc}, nil
}

// pack returns the chunk to store, in memory of its own.
func (p *packer) pack(number int, meta, raw []byte) ([]byte, error) {
	p.packed = p.zstd.EncodeAll(meta, p.packed[:0])
	p.plain = binary.AppendUvarint(p.plain[:0], uint64(len(p.packed)))
	p.plain = append(append(p.plain, p.packed...), raw...)
	out := make([]byte, 0, len(p.plain)+64+len(p.manifest.Key))
	out = chunkHead(out, number, p.manifest.Key)
	return p.sealer.Seal(p.manifest.Key, p.manifest.ID, out, bound(out, p.manifest), p.plain)
}

func newUnpacker() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxMeta))
	if err != nil {
		panic(err) // the options are right
	}
	return dec
}

// unpack opens a stored chunk.
func unpack(dec *zstd.Decoder, s Sealer, m *Manifest, data []byte) (number int, meta, raw []byte, err error) {
	r := &reader{b: data}
	if v := r.bytes(1); len(v) == 1 && v[0] != version {
		return 0, nil, nil, fmt.Errorf("chunk: %w: version %d", ErrVersion, v[0])
	}
	number = r.below(math.MaxInt32)
	key := journal.KeyID(r.text())
	if r.err != nil {
		return 0, nil, nil, r.err
	}
	head := data[:len(data)-len(r.b)]
	plain, err := s.Open(key, m.ID, bound(head, m), r.b)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("chunk %d: %w", number, err)
	}
	meta, raw, err = split(dec, plain)
	return number, meta, raw, err
}

// split takes the plaintext of a chunk apart.
func split(dec *zstd.Decoder, plain []byte) (meta, raw []byte, err error) {
	r := &reader{b: plain}
	packed := r.bytes(r.count(1))
	if r.err != nil {
		return nil, nil, r.err
	}
	if meta, err = dec.DecodeAll(packed, nil); err != nil {
		return nil, nil, fmt.Errorf("snapshot: %w: metadata: %w", journal.ErrMalformed, err)
	}
	return meta, r.b, nil
}
