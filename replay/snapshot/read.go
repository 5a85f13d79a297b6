package snapshot

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Load returns the state that the snapshot holds, every chunk of it checked. progress, if not nil, is told how
// many sessions are loaded, now and then, and never concurrently.
//
// Errors: ErrIncomplete, ErrVersion, journal.ErrKeyMissing, journal.ErrWrongKey, journal.ErrMalformed, the store's.
func Load(ctx context.Context, st Store, s Sealer, m *Manifest, progress func(sessions int)) (*replay.State, error) {
	x, err := m.open(s)
	if err != nil {
		return nil, err
	}
	g := newGatherer(m, false)
	// A session takes some bytes at least: what the manifest says must not make room for more.
	g.loader = replay.NewLoader(int(min(int64(m.Sessions), m.Bytes/rowBytes)))
	g.progress = progress
	if err := g.read(ctx, st, s, x); err != nil {
		return nil, err
	}
	return g.loader.Finish(&x.ledger)
}

// Verify reads the snapshot again and checks that what is stored is the state that was written, without holding it in
// memory. Its errors are those of Load.
func Verify(ctx context.Context, st Store, s Sealer, m *Manifest) error {
	x, err := m.open(s)
	if err != nil {
		return err
	}
	g := newGatherer(m, true)
	if err := g.read(ctx, st, s, x); err != nil {
		return err
	}
	if m.digest(&x.ledger, slices.Concat(g.digests...)) != x.state {
		return fmt.Errorf("snapshot %v: %w: the state in it is not the one that was written", m.ID, journal.ErrMalformed)
	}
	return nil
}

// gatherer takes the chunks of one snapshot, in any order.
type gatherer struct {
	manifest *Manifest
	verify   bool
	loader   *replay.Loader // nil when verifying
	progress func(int)
	sessions int

	sums    []byte
	seen    []bool
	missing int
	parts   []content // by number, blocks removed
	digests [][]byte
}

func newGatherer(m *Manifest, verify bool) *gatherer {
	return &gatherer{
		manifest: m, verify: verify, missing: m.Chunks, seen: make([]bool, m.Chunks), parts: make([]content, m.Chunks),
		sums: make([]byte, m.Chunks*m.sumSize()), digests: make([][]byte, m.Chunks),
	}
}

// read reads all chunks, opens them in several goroutines, and completes the ledger.
func (g *gatherer) read(ctx context.Context, st Store, s Sealer, x *secrets) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stored, ready := make(chan []byte), make(chan chunk)
	var opening sync.WaitGroup
	dec := newUnpacker()
	defer dec.Close()
	for range runtime.GOMAXPROCS(0) {
		opening.Go(func() {
			for data := range stored {
				ready <- g.open(dec, s, data)
			}
		})
	}
	var reading error
	go func() {
		reading = st.Chunks(ctx, g.manifest.ID, func(data []byte) error {
			select {
			case stored <- data:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		close(stored)
		opening.Wait()
		close(ready)
	}()
	var failed error
	for c := range ready {
		if failed != nil {
			continue // drain
		}
		if failed = g.take(c); failed != nil {
			cancel(failed)
		}
	}
	switch {
	case failed != nil:
		return fmt.Errorf("snapshot %v: %w", g.manifest.ID, failed)
	case reading != nil:
		return fmt.Errorf("snapshot %v: %w", g.manifest.ID, reading)
	case g.missing > 0:
		return fmt.Errorf("snapshot %v: %w: %d of %d chunks are missing", g.manifest.ID, ErrIncomplete, g.missing, g.manifest.Chunks)
	case sha256.Sum256(g.sums) != x.chunks:
		return fmt.Errorf("snapshot %v: %w: chunks are not those that were written", g.manifest.ID, ErrIncomplete)
	}
	return g.complete(&x.ledger)
}

// chunk is a stored chunk, opened.
type chunk struct {
	content

	number int
	sum    []byte
	err    error
}

func (g *gatherer) open(dec *zstd.Decoder, s Sealer, data []byte) (c chunk) {
	var p *parts
	if c.number, c.sum, p, c.err = unpack(dec, s, g.manifest, data); c.err == nil {
		c.content, c.err = decode(g.manifest.version, p, g.loader, g.verify)
	}
	return c
}

func (g *gatherer) take(c chunk) error {
	if c.err != nil {
		return c.err
	}
	i := c.number - 1
	if i < 0 || i >= len(g.seen) {
		return fmt.Errorf("%w: chunk %d of %d", journal.ErrMalformed, c.number, len(g.seen))
	}
	if g.seen[i] {
		return nil // it was stored twice
	}
	g.seen[i] = true
	g.missing--
	copy(g.sums[i*len(c.sum):], c.sum)
	g.digests[i] = c.digests
	g.sessions += c.rows
	if c.block != nil && g.loader != nil {
		if err := g.loader.Take(c.block); err != nil {
			return err
		}
		if g.progress != nil {
			g.progress(g.sessions)
		}
	}
	c.block = nil
	g.parts[i] = c.content
	return nil
}

// complete puts the lists into the ledger and checks that the chunks follow one another.
func (g *gatherer) complete(l *replay.Ledger) error {
	var last journal.Position
	for i := range g.parts {
		p := &g.parts[i]
		if p.kind == kindSessions && p.rows > 0 {
			if p.first.Compare(last) <= 0 {
				return fmt.Errorf("snapshot %v: %w: sessions not in order", g.manifest.ID, journal.ErrMalformed)
			}
			last = p.last
		}
		l.Ended = append(l.Ended, p.ended...)
		l.Writers = append(l.Writers, p.writers...)
		l.Erased = append(l.Erased, p.erased...)
	}
	if g.sessions != l.Sessions {
		return fmt.Errorf("snapshot %v: %w: %d sessions where it says %d", g.manifest.ID, journal.ErrMalformed, g.sessions, l.Sessions)
	}
	return nil
}
