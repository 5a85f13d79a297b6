package snapshot

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// chunkBytes is about how large a chunk becomes: what fits into one message of a stream.
const chunkBytes = 960 << 10

// rowBytes is about what a session takes in a chunk besides its body.
const rowBytes = 24

// yieldEvery is after how many sessions, some tens of microseconds, whoever else wants to run is let through: a
// snapshot is in no hurry, and requests must not wait for a time slice.
const yieldEvery = 64

// Write stores a snapshot of the frozen state and releases it. now is the taker's clock. It fails with
// journal.ErrKeyMissing or the store's error; what was stored by then is left to [Keeper] to clean up.
func Write(ctx context.Context, st Store, s Sealer, f *replay.Frozen, now journal.Instant) (*Manifest, error) {
	defer f.Release()
	l := f.Ledger()
	m := &Manifest{
		ID: journal.NewSnapshotID(), Journal: l.Journal, Fold: replay.FoldVersion, Seq: l.Seq, Now: l.Now,
		Events: l.Stats.Events, Sessions: l.Sessions, Taken: now, Key: s.Key(), version: version,
	}
	f.Arrange()
	w := writer{store: st, sealer: s, frozen: f, commons: newCommons(f), manifest: m, digests: make([]byte, sha256.Size*f.Len())}
	if err := w.chunks(ctx); err != nil {
		return nil, fmt.Errorf("snapshot at %d: %w", m.Seq, err)
	}
	x := &secrets{state: l.Digest(w.digests), chunks: sha256.Sum256(w.sums), ledger: *l}
	data, err := m.seal(s, x)
	if err == nil {
		err = st.PutManifest(ctx, m.ID, data)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot at %d: manifest: %w", m.Seq, err)
	}
	m.data = data
	return m, nil
}

// job is one chunk to make: sessions from..to, or what fill appends.
type job struct {
	number   int
	from, to int
	fill     func(meta []byte) []byte
}

type writer struct {
	store    Store
	sealer   Sealer
	frozen   *replay.Frozen
	commons  *commons
	manifest *Manifest
	digests  []byte // of the sessions

	mu   sync.Mutex
	sums []byte // of the chunks by number
	err  error
}

// chunks makes and stores all chunks, several at once: while one is written to disk others are made.
func (w *writer) chunks(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) + 1 {
		wg.Go(func() {
			if err := w.work(ctx, jobs); err != nil {
				w.fail(err)
				cancel()
			}
		})
	}
	w.cut(ctx, jobs)
	close(jobs)
	wg.Wait()
	if w.err == nil {
		w.err = context.Cause(ctx)
	}
	return w.err
}

func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// cut hands out the jobs. Where chunks end depends on the state alone.
func (w *writer) cut(ctx context.Context, jobs chan<- job) {
	number := 0
	send := func(j job) bool {
		number++
		j.number = number
		select {
		case jobs <- j:
			return true
		case <-ctx.Done():
			return false
		}
	}
	size, from := 0, 0
	var seen numbers
	for i := range w.frozen.Len() {
		if i%yieldEvery == 0 {
			runtime.Gosched()
		}
		row := w.frozen.Row(i)
		common := w.commons.of(w.frozen, row.Common)
		n := rowBytes + len(row.Body)
		if size+n > chunkBytes && i > from {
			if !send(job{from: from, to: i}) {
				return
			}
			size, from = 0, i
			seen.reset()
		}
		if _, first := seen.of(common); first {
			n += len(common.row)
		}
		size += n
	}
	l := w.frozen.Ledger()
	_ = (from == w.frozen.Len() || send(job{from: from, to: w.frozen.Len()})) &&
		cutList(l.Ended, appendEnded, send) && cutList(l.Writers, appendWriters, send) && cutList(l.Erased, appendErased, send)
	w.manifest.Chunks = number
}

func cutList[E any](list []E, fill func([]byte, []E) []byte, send func(job) bool) bool {
	for len(list) > 0 {
		part := list[:min(listRows, len(list))]
		list = list[len(part):]
		if !send(job{fill: func(meta []byte) []byte { return fill(meta, part) }}) {
			return false
		}
	}
	return true
}

func (w *writer) work(ctx context.Context, jobs <-chan job) error {
	p, err := newPacker(w.manifest, w.sealer)
	if err != nil {
		return err
	}
	var c columns
	var parts parts
	for j := range jobs {
		w.fill(&c, j, &parts)
		data, sum, err := p.pack(j.number, &parts)
		if err != nil {
			return err
		}
		if err := w.store.PutChunk(ctx, w.manifest.ID, j.number, data); err != nil {
			return err
		}
		w.note(j.number, len(data), sum)
	}
	return nil
}

func (w *writer) fill(c *columns, j job, p *parts) {
	p.meta, p.refs, p.bodies = p.meta[:0], p.refs[:0], p.bodies[:0]
	if j.fill != nil {
		p.meta = j.fill(p.meta)
		return
	}
	c.reset()
	for i := j.from; i < j.to; i++ {
		if i%yieldEvery == 0 {
			runtime.Gosched()
		}
		row := w.frozen.Row(i)
		common := &w.commons.list[row.Common]
		c.add(&row, common, p)
		d := row.Digest(&common.digest)
		copy(w.digests[i*sha256.Size:], d[:])
	}
	p.meta = c.append(p.meta)
}

func (w *writer) note(number, size int, sum chunkSum) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if need := number * len(sum); len(w.sums) < need {
		w.sums = append(w.sums, make([]byte, need-len(w.sums))...)
	}
	copy(w.sums[(number-1)*len(sum):], sum[:])
	w.manifest.Bytes += int64(size)
}
