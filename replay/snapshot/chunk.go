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
func bound(head []byte, m *Manifest, part ...byte) []byte {
	b := append([]byte("dormouse chunk\x00"), head...)
	return append(append(append(b, m.Journal[:]...), m.ID[:]...), part...)
}

// The parts of a chunk are sealed one by one: the table keeps the second, and nothing else, as it was opened.
const (
	partRows byte = iota + 1
	partBodies
)

// sumSize is that of an AES-GCM tag.
const sumSize = 16

// chunkSum stands for a chunk in the manifest: the tags of its parts, which opening them has checked over all of them.
// Another digest of the same bytes would cost as much as the rest of the load. In version 1 there was one part.
type chunkSum [2 * sumSize]byte

func (s *chunkSum) take(part int, sealed []byte) {
	copy(s[part*sumSize:], sealed[max(0, len(sealed)-sumSize):])
}

// packer makes chunks. Not safe for concurrent use.
type packer struct {
	manifest *Manifest
	sealer   Sealer
	zstd     *zstd.Encoder
	plain    []byte
	packed   []byte
	rows     []byte
	out      []byte
}

func newPacker(m *Manifest, s Sealer) (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &packer{manifest: m, sealer: s, zstd: enc}, nil
}

// pack returns the chunk to store, which is good until the next call.
func (p *packer) pack(number int, c *parts) (data []byte, sum chunkSum, err error) {
	p.packed = p.zstd.EncodeAll(c.meta, p.packed[:0])
	p.plain = appendText(p.plain[:0], p.packed)
	p.plain = append(p.plain, c.refs...)
	m := p.manifest
	head := chunkHead(nil, number, m.Key)
	if p.rows, err = p.sealer.Seal(m.Key, m.ID, p.rows[:0], bound(head, m, partRows), p.plain); err != nil {
		return nil, sum, err
	}
	p.out = appendText(append(p.out[:0], head...), p.rows)
	before := len(p.out)
	if p.out, err = p.sealer.Seal(m.Key, m.ID, p.out, bound(head, m, partBodies), c.bodies); err != nil {
		return nil, sum, err
	}
	sum.take(0, p.rows)
	sum.take(1, p.out[before:])
	return p.out, sum, nil
}

func newUnpacker() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxMeta))
	if err != nil {
		panic(err) // the options are right
	}
	return dec
}

// unpack opens a stored chunk of the manifest's version.
func unpack(dec *zstd.Decoder, s Sealer, m *Manifest, data []byte) (number int, sum []byte, p *parts, err error) {
	r := &reader{b: data}
	if v := r.bytes(1); len(v) == 1 && v[0] != m.version {
		return 0, nil, nil, fmt.Errorf("chunk: %w: version %d", ErrVersion, v[0])
	}
	number = r.below(math.MaxInt32)
	key := journal.KeyID(r.text())
	if r.err != nil {
		return 0, nil, nil, r.err
	}
	head := data[:len(data)-len(r.b)]
	if m.version == 1 {
		sum, p, err = unpackFormer(dec, s, m, key, head, r.b)
	} else {
		sum, p, err = unpackParts(dec, s, m, key, head, r)
	}
	if err != nil {
		err = fmt.Errorf("chunk %d: %w", number, err)
	}
	return number, sum, p, err
}

func unpackParts(dec *zstd.Decoder, s Sealer, m *Manifest, key journal.KeyID, head []byte, r *reader) (sum []byte, p *parts, err error) {
	rows := r.bytes(r.count(1))
	if r.err != nil {
		return nil, nil, r.err
	}
	var both chunkSum
	both.take(0, rows)
	both.take(1, r.b)
	plain, err := s.Open(key, m.ID, bound(head, m, partRows), rows)
	if err != nil {
		return nil, nil, err
	}
	p = new(parts)
	if p.meta, p.refs, err = split(dec, plain); err != nil {
		return nil, nil, err
	}
	p.bodies, err = s.Open(key, m.ID, bound(head, m, partBodies), r.b)
	return both[:], p, err
}

func unpackFormer(dec *zstd.Decoder, s Sealer, m *Manifest, key journal.KeyID, head, sealed []byte) (sum []byte, p *parts, err error) {
	var both chunkSum
	both.take(0, sealed)
	plain, err := s.Open(key, m.ID, bound(head, m), sealed)
	if err != nil {
		return nil, nil, err
	}
	p = new(parts)
	p.meta, p.bodies, err = split(dec, plain)
	return both[:sumSize], p, err
}

// split takes metadata that are packed off the front.
func split(dec *zstd.Decoder, plain []byte) (meta, rest []byte, err error) {
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
