package commit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	// maxYields bounds how often the loop lets others run before it freezes a batch.
	maxYields = 4

	// largeMessage is the size from which a digest takes longer than handing it to another goroutine.
	largeMessage = 16 << 10
)

// batch is what was frozen together.
type batch struct {
	header   journal.Header
	events   []journal.Event
	size     int
	calls    []placed // in the order of their places
	data     []byte
	frozenAt time.Time
	inDoubt  bool // an attempt may have stored it, or may yet
	told     bool // its callers have their results
}

// placed is a call and where its n events are in the batch. Events outside of all calls were posted. The
// call's own fields must not be read any more once it is settled: its caller reuses it.
type placed struct {
	call     *call
	first, n int
}

// run commits batch after batch, until the committer is closed and empty, or done for.
func (c *Committer) run(ctx context.Context) {
	defer close(c.done)
	defer c.timer.Stop()
	for {
		b := c.next(ctx)
		if b == nil {
			break
		}
		if err := c.commit(ctx, b); err != nil {
			c.end(err)
			return
		}
	}
	c.end(journal.ErrClosed)
}

// end refuses whatever still waits, now and later.
func (c *Committer) end(err error) {
	c.mu.Lock()
	c.fatal = err
	left := c.queue.takeAll()
	c.stats.Unsaved += c.accesses.len()
	c.accesses = accesses{}
	c.mu.Unlock()
	if !errors.Is(err, journal.ErrClosed) {
		c.o.Logger.Error().Err(err).Stringer("writer", c.o.Writer).Msg("this writer can append no more")
	}
	settle(left, result{err: err})
}

func settle(calls []*call, r result) {
	for _, k := range calls {
		k.settle(r)
	}
}

// next waits until there is something to commit and freezes it. It returns nil at the end.
func (c *Committer) next(ctx context.Context) *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lingerUntil time.Time
	for ctx.Err() == nil {
		if c.queue.front != nil {
			c.yield()
			return c.freeze()
		}
		waiting := c.accesses.len()
		if waiting == 0 {
			if c.closing {
				return nil
			}
			lingerUntil = time.Time{}
			c.wait(ctx, 0)
			continue
		}
		now := time.Now()
		if lingerUntil.IsZero() {
			lingerUntil = now.Add(c.o.Linger)
		}
		due := lingerUntil
		if c.closing || waiting >= journal.MaxBatchEvents {
			due = now
		}
		if c.retryAt.After(due) {
			due = c.retryAt
		}
		if !due.After(now) {
			return c.freeze()
		}
		c.wait(ctx, due.Sub(now))
	}
	return nil
}

// yield lets callers who are about to append do so, if there was more than one last time: a batch costs
// the same with them. A lone caller is not made to wait. The lock is held, except meanwhile.
func (c *Committer) yield() {
	if c.crowd < 2 {
		return
	}
	for range maxYields {
		before := c.queue.events
		if before >= journal.MaxBatchEvents {
			return
		}
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
		if c.queue.events == before {
			return
		}
	}
}

// wait waits to be woken, at most d unless d is zero. The lock is held, except meanwhile.
func (c *Committer) wait(ctx context.Context, d time.Duration) {
	c.idle = true
	c.mu.Unlock()
	if d > 0 {
		c.timer.Reset(d)
	}
	select {
	case <-c.wake:
	case <-c.timer.C:
	case <-ctx.Done():
	}
	c.timer.Stop()
	c.mu.Lock()
	c.idle = false
}

// freeze takes from the queue what fits in one batch, in order. The lock is held.
func (c *Committer) freeze() *batch {
	n := min(c.queue.events+c.accesses.len(), journal.MaxBatchEvents)
	b := c.newBatch(n, min(c.queue.calls, n+1))
	for {
		k := c.queue.front
		switch {
		case k != nil && k.after <= c.accesses.first:
			if !b.fits(len(k.events), k.size) {
				return b
			}
			c.queue.remove(k)
			k.state, k.batch = callFrozen, b
			b.calls = append(b.calls, placed{call: k, first: len(b.events), n: len(k.events)})
			b.events = append(b.events, k.events...)
			b.size += k.size
		case c.accesses.len() > 0:
			e := c.accesses.front()
			size := sizeOf(e)
			if !b.fits(1, size) {
				return b
			}
			b.events = append(b.events, *e)
			b.size += size
			c.accesses.pop()
		default:
			return b
		}
	}
}

// newBatch returns an empty batch with room for so much. Where nothing is remembered, the memory of the one before is
// used again: that is the only one there was.
func (c *Committer) newBatch(events, calls int) *batch {
	b := &batch{events: c.spare.events[:0], calls: c.spare.calls[:0], frozenAt: time.Now()}
	if cap(b.events) < events {
		b.events = make([]journal.Event, 0, events)
	}
	if cap(b.calls) < calls {
		b.calls = make([]placed, 0, calls)
	}
	c.spare = batch{}
	return b
}

func (b *batch) fits(events, size int) bool {
	return len(b.events)+events <= journal.MaxBatchEvents && b.size+size <= journal.MaxBatchBytes
}

// commit brings a batch to its end. An error is the end of the committer.
func (c *Committer) commit(ctx context.Context, b *batch) error {
	if len(b.events) == 0 { // nothing before these Flushes
		c.settleBatch(b, result{})
		return nil
	}
	if err := c.encode(b); err != nil {
		return c.refused(ctx, b, err)
	}
	digest := digestOf(b.data)
	c.recent.put(kept{number: b.header.Number, digest: digest, events: b.events, size: b.size})
	seq, err := c.store(ctx, b)
	previous := digest()
	switch {
	case err == nil:
		c.previous = previous
		c.committed(b, seq)
		c.reuse(b)
		return nil
	case errors.Is(err, journal.ErrUnavailable):
		c.unavailable(b, err)
		return nil
	default:
		told := err
		if b.inDoubt {
			told = fmt.Errorf("%w: %w", journal.ErrOutcomeUnknown, err)
		}
		c.settleBatch(b, result{err: told})
		c.count(func(s *Stats) { s.Unsaved += len(b.posted()) })
		return err
	}
}

// digestOf returns what gives the digest of a message. That of a large one is made meanwhile, beside the
// publish, which mostly waits for the disk; callers would wait for it otherwise.
func digestOf(data []byte) func() journal.Digest {
	digest := sync.OnceValue(func() journal.Digest { return journal.DigestOf(data) })
	if len(data) >= largeMessage {
		go digest()
	}
	return digest
}

// reuse gives the memory of a stored batch back: nobody reads its message any more, and its events only if they are
// remembered. What they point to is held until the next batch takes their places.
func (c *Committer) reuse(b *batch) {
	if r, ok := c.o.Encoder.(Recycler); ok {
		r.Recycle(b.data)
		b.data = nil
	}
	if c.recent.maxBatches < 0 {
		c.spare = batch{events: b.events, calls: b.calls}
	}
}

func (c *Committer) encode(b *batch) error {
	b.header = journal.Header{
		Journal:  c.o.Journal,
		Writer:   c.o.Writer,
		Number:   c.number + 1,
		Previous: c.previous,
	}
	if c.o.Basis != nil {
		b.header.Basis = c.o.Basis()
	}
	data, err := c.o.Encoder.Encode(&b.header, b.events)
	if err != nil {
		return fmt.Errorf("encode batch %d: %w", b.header.Number, err)
	}
	b.data = data
	return nil
}

// refused finds the event that the encoder does not take, so that it harms no other: it halves the batch
// until one call, or one posted event, stands alone.
func (c *Committer) refused(ctx context.Context, b *batch, err error) error {
	c.mu.Lock()
	left, right := b.halves()
	c.mu.Unlock()
	if right == nil {
		c.o.Logger.Error().Err(err).Int("events", len(b.events)).Msg("events refused by the encoder")
		c.settleBatch(b, result{err: err})
		c.mu.Lock()
		c.dropped(0, len(b.posted()))
		c.mu.Unlock()
		return nil
	}
	if err := c.commit(ctx, left); err != nil {
		c.settleBatch(right, result{err: err})
		return err
	}
	return c.commit(ctx, right)
}
