package seal

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	// minCompress is the size of metadata below which zstd saves next to nothing: it lives on what repeats
	// from event to event.
	minCompress = 512

	// minParallel is how many events make it worth while to pack the halves of a batch at once. Everybody waits
	// for the committer at that moment, so there is a processor to spare.
	minParallel = 128
)

// packer makes and compresses the metadata of events. Its memory is kept from batch to batch.
type packer struct {
	zstd   *zstd.Encoder
	meta   []byte
	frame  []byte // compressed; empty below minCompress
	sealed int    // bytes that stand behind the metadata
	err    error
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

func (p *packer) pack(first journal.Instant, events []journal.Event) {
	p.frame = p.frame[:0]
	p.meta, p.sealed, p.err = journal.AppendEvents(p.meta[:0], first, events)
	if p.err == nil && len(p.meta) >= minCompress {
		p.frame = p.zstd.EncodeAll(p.meta, p.frame)
	}
}

// packed is the metadata of a whole batch, in parts: one, or two of a large batch.
type packed struct {
	parts      [][]byte
	size       int // of all parts
	compressed bool
	sealed     int
}

// pack packs a batch, the halves of a large one at once. What it returns is good until the next call.
func (s *BatchSealer) pack(first journal.Instant, events []journal.Event) (packed, error) {
	if len(events) < minParallel || len(events) > journal.MaxBatchEvents {
		s.halves[0].pack(first, events)
		return joined(s.halves[:1])
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.halves[1].pack(first, events[len(events)/2:])
	}()
	s.halves[0].pack(first, events[:len(events)/2])
	<-done
	return joined(s.halves[:])
}

// joined puts parts together: Protobuf messages of one type, as well as zstd frames, may stand one behind another. If
// compression saves nothing, all stay plain.
func joined(parts []packer) (packed, error) {
	meta, frames := 0, 0
	all := packed{compressed: true}
	for i := range parts {
		p := &parts[i]
		if p.err != nil {
			return packed{}, p.err
		}
		meta += len(p.meta)
		frames += len(p.frame)
		all.sealed += p.sealed
		all.compressed = all.compressed && len(p.frame) > 0
	}
	if n := meta + all.sealed; n > journal.MaxPayload {
		return packed{}, fmt.Errorf("%d bytes of events: %w", n, journal.ErrTooLarge)
	}
	all.compressed = all.compressed && frames < meta
	for i := range parts {
		part := parts[i].meta
		if all.compressed {
			part = parts[i].frame
		}
		all.parts = append(all.parts, part)
		all.size += len(part)
	}
	return all, nil
}

// length is what stands before the metadata: its size, and in the lowest bit whether it is compressed.
func (p *packed) length() uint64 {
	if p.compressed {
		return uint64(p.size)<<1 | 1
	}
	return uint64(p.size) << 1
}
