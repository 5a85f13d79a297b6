package seal

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

// minCompress is the size of metadata below which zstd saves next to nothing: it lives on what repeats from event
// to event.
const minCompress = 512

const (
	// minDense is from how many bytes on it is better not to compress what hardly compresses.
	minDense = 2 << 10

	// large is the size from which a message's callers wait noticeably for zstd, whose tables have left the processor's
	// caches when the next batch comes. Then one byte in minShare at least must be one that it is good for.
	large    = 32 << 10
	minShare = 8
)

// packer makes and compresses the metadata of events. Its memory is kept from batch to batch.
type packer struct {
	zstd  *zstd.Encoder
	event journal.EventPacker
	meta  []byte
	frame []byte
	part  []byte
}

func newPacker() (packer, error) {
	// What is left of metadata once repetitions are gone is refs, mostly: entropy coding costs as much as the
	// rest and saves not a byte.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithNoEntropyCompression(true),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return packer{}, fmt.Errorf("zstd: %w", err)
	}
	return packer{zstd: enc}, nil
}

// packed is the metadata of a batch.
type packed struct {
	data       []byte // good until the next batch
	compressed bool
	alike      bool
	sealed     int // bytes that stand behind it
}

// pack packs the events' metadata, compressed if that makes it smaller and the message too.
func (p *packer) pack(first journal.Instant, events []journal.Event) (packed, error) {
	meta, sealed, alike, err := p.event.Append(p.meta[:0], first, events)
	if err != nil {
		return packed{}, err
	}
	p.meta = meta
	if p.worthIt(sealed) {
		p.compress(meta)
		if len(p.frame) < len(meta) {
			return packed{data: p.frame, compressed: true, alike: alike, sealed: sealed}, nil
		}
	}
	return packed{data: meta, alike: alike, sealed: sealed}, nil
}

// worthIt reports whether the metadata is worth compressing, before that many sealed bytes.
func (p *packer) worthIt(sealed int) bool {
	varied, all := len(p.meta)-p.event.Dense(), len(p.meta)+sealed
	return len(p.meta) >= minCompress && (all < large || varied >= all/minShare)
}

// compress makes the frame of meta.
func (p *packer) compress(meta []byte) {
	dense := p.event.Dense()
	if dense < minDense {
		p.frame = p.zstd.EncodeAll(meta, p.frame[:0])
		return
	}
	p.part = p.zstd.EncodeAll(meta[:len(meta)-dense], p.part[:0])
	frame, ok := appendFrame(p.frame[:0], p.part, len(meta), meta[len(meta)-dense:])
	if !ok {
		frame = p.zstd.EncodeAll(meta, p.frame[:0])
	}
	p.frame = frame
}

// length is what stands before the metadata: its size, and in the lowest bit whether it is compressed.
func (p *packed) length() uint64 {
	if p.compressed {
		return uint64(len(p.data))<<1 | 1
	}
	return uint64(len(p.data)) << 1
}
