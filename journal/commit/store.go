package commit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// errAgain says that an attempt surely stored nothing and that the next one may.
var errAgain = errors.New("not stored, try again")

// errDoubted says that the stream's leader may not be one any more, or not know everything yet.
var errDoubted = errors.New("not believed yet of a replicated stream")

// fatalError ends the committer.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// store publishes b until its outcome is known, and returns its sequence. It fails with
// journal.ErrUnavailable if b is surely not stored. Any other error is the end of the committer.
func (c *Committer) store(ctx context.Context, b *batch) (journal.Seq, error) {
	for {
		seq, err := c.attempt(ctx, b)
		if err == nil {
			return seq, nil
		}
		c.o.Observer.AttemptFailed(err)
		var fatal fatalError
		unavailable := errors.Is(err, journal.ErrUnavailable)
		switch {
		case errors.As(err, &fatal):
			return 0, fatal.error
		case unavailable && !b.inDoubt && !c.bears(err):
			return 0, err
		case unavailable && !b.inDoubt: // nothing is stored, and nobody need be told yet
		default:
			b.inDoubt = b.inDoubt || !unavailable && !errors.Is(err, errAgain)
			c.hold(b, err, unavailable)
		}
		if !c.pause(ctx, errors.Is(err, errDoubted)) {
			return 0, journal.ErrClosed
		}
	}
}

// attempt publishes b once. Errors: errAgain and journal.ErrUnavailable (this attempt stored nothing),
// fatalError; after others it is in doubt.
func (c *Committer) attempt(ctx context.Context, b *batch) (journal.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.AttemptTimeout)
	defer cancel()
	c.count(func(s *Stats) { s.Attempts++ })
	seq, err := c.o.Port.Publish(ctx, c.o.Writer, c.expect, b.data)
	if !errors.Is(err, journal.ErrConflict) {
		return seq, err
	}
	c.count(func(s *Stats) { s.Conflicts++ })
	return c.resolve(ctx, b)
}

func (c *Committer) count(fn func(*Stats)) {
	c.mu.Lock()
	fn(&c.stats)
	c.mu.Unlock()
}

// resolve finds out what a conflict means from the last message on the own subject.
func (c *Committer) resolve(ctx context.Context, b *batch) (journal.Seq, error) {
	m, err := c.o.Port.Last(ctx, c.o.Writer)
	switch {
	case errors.Is(err, journal.ErrNoMessage):
		return 0, c.resolveEmpty(ctx, b)
	case err != nil && b.inDoubt:
		return 0, fmt.Errorf("read the writer's last message: %w", err)
	case err != nil: // a conflict stores nothing
		return 0, fmt.Errorf("%w: read the writer's last message: %w", errAgain, err)
	case bytes.Equal(m.Data, b.data):
		return m.Seq, nil
	case m.Seq == c.last:
		c.doubt.Settle()
		return 0, errAgain
	case m.Seq < c.last:
		return 0, c.doubted(fmt.Errorf("%w: this writer's last batch was at %d, now it is at %d", journal.ErrDamaged, c.last, m.Seq))
	default:
		return 0, fatalError{fmt.Errorf("%w: at %d, expected batch %d after %d", journal.ErrForeignBatch, m.Seq, b.header.Number, c.last)}
	}
}

// resolveEmpty finds out why there is no message on the own subject: an idle writer's last batch may have
// been trimmed away. Then copies that are in doubt can be stored no more, because they expect it. Only one
// that was stored before and trimmed away too would go unnoticed; it came after all that was known when it
// was frozen.
func (c *Committer) resolveEmpty(ctx context.Context, b *batch) error {
	if c.expect == 0 {
		return errAgain
	}
	known := max(c.last, b.header.Basis.Seq)
	bounds, err := c.o.Port.Bounds(ctx)
	switch {
	case err != nil && b.inDoubt:
		return fmt.Errorf("read the stream's bounds: %w", err)
	case err != nil:
		return fmt.Errorf("%w: read the stream's bounds: %w", errAgain, err)
	case c.last >= bounds.First:
		return c.doubted(fmt.Errorf("%w: this writer's last batch, at %d, is gone", journal.ErrDamaged, c.last))
	case b.inDoubt && bounds.First > known+1:
		return c.doubted(fmt.Errorf("the stream was trimmed to %d while a batch after %d was in doubt", bounds.First, known))
	default:
		c.doubt.Settle()
		c.expect = 0
		return errAgain
	}
}

// doubted holds back what is the end of the writer if it is true, until it can be believed: it may be the word of a
// leader that was deposed. Meanwhile it is no journal.ErrDamaged to anybody.
func (c *Committer) doubted(end error) error {
	if c.doubt.Ripe(time.Now(), c.o.Port.Patience()) {
		return fatalError{end}
	}
	return fmt.Errorf("%w: %w: %v", errAgain, errDoubted, end) //nolint:errorlint // not yet
}

// hold settles those who need not, or cannot, wait for a batch that is tried again.
func (c *Committer) hold(b *batch, err error, unavailable bool) {
	late := time.Since(b.frozenAt) >= c.o.MaxWait
	if !late && !unavailable {
		return
	}
	if !late && c.bears(err) {
		return
	}
	c.mu.Lock()
	c.stalled = true
	c.goDown(err)
	queued := c.queue.takeAll()
	down := c.down
	c.mu.Unlock()
	settle(queued, result{err: down})
	if late {
		c.settleBatch(b, result{err: fmt.Errorf("%w after %v: %w", journal.ErrOutcomeUnknown, c.o.MaxWait, err)})
	}
}

// bears notes why the stream does not answer, and reports whether callers wait until it does.
func (c *Committer) bears(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goDown(err)
	return c.patient()
}

// patient reports whether the stream is in an election that need not have failed yet. The lock is held.
func (c *Committer) patient() bool {
	return errors.Is(c.down, journal.ErrNoLeader) && time.Since(c.downAt) < c.o.Patience
}

// goDown notes that the stream does not answer. The lock is held.
func (c *Committer) goDown(err error) {
	if c.down == nil {
		c.downAt = time.Now()
		c.o.Observer.ReachableChanged(false)
		c.o.Logger.Warn().Err(err).Msg("the journal's stream does not answer")
	}
	if errors.Is(err, journal.ErrUnavailable) {
		c.down = err
	} else {
		c.down = fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
	}
}

// pause waits before the next attempt. It reports false if the committer is to end. What is doubted is asked again
// soon, because a contradiction counts only while it is repeated.
func (c *Committer) pause(ctx context.Context, doubted bool) bool {
	d := c.nextBackoff()
	if doubted {
		d = min(d, DefaultMaxRetry)
	}
	c.timer.Reset(d)
	defer c.timer.Stop()
	select {
	case <-c.timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Committer) nextBackoff() time.Duration {
	c.backoff = min(max(2*c.backoff, c.o.RetryEvery), c.o.MaxRetry)
	return c.backoff
}

// committed makes b the writer's last batch and tells its callers.
func (c *Committer) committed(b *batch, seq journal.Seq) {
	took := time.Since(b.frozenAt)
	c.number, c.last, c.expect = b.header.Number, seq, seq
	c.doubt.Settle()
	c.crowd, c.backoff, c.retryAt = len(b.calls), 0, time.Time{}
	c.mu.Lock()
	if c.down != nil {
		c.o.Observer.ReachableChanged(true)
		c.o.Logger.Info().Msg("the journal's stream answers again")
	}
	c.down, c.stalled = nil, false
	c.stats.Batches++
	c.stats.Events += uint64(len(b.events))
	c.stats.Bytes += uint64(len(b.data))
	c.stats.Number, c.stats.Last = c.number, seq
	c.mu.Unlock()
	c.o.Observer.BatchCommitted(len(b.events), len(b.data), took)
	c.settleBatch(b, result{pos: journal.Position{Seq: seq}})
}

// unavailable undoes the freezing of b, which is surely not stored: accesses wait on, callers do not.
func (c *Committer) unavailable(b *batch, err error) {
	c.recent.drop(b.header.Number)
	c.settleBatch(b, result{err: err})
	now := time.Now()
	c.mu.Lock()
	c.goDown(err)
	c.stalled = false
	queued := c.queue.takeAll()
	c.accesses.putBack(b.posted())
	if c.accesses.len() > c.o.MaxBuffered {
		c.shrink()
	}
	c.probeAt = now.Add(c.o.RetryEvery)
	c.retryAt = now.Add(c.nextBackoff())
	c.mu.Unlock()
	settle(queued, result{err: err})
}

// settleBatch gives the batch's calls their result, once. A position is that of the batch; each call gets
// that of its own first event.
func (c *Committer) settleBatch(b *batch, r result) {
	c.mu.Lock()
	calls := b.settled()
	c.mu.Unlock()
	for _, p := range calls {
		own := r
		if r.err == nil && p.n > 0 {
			own.pos.Index = uint32(p.first)
		} else {
			own.pos = journal.Position{}
		}
		p.call.settle(own)
	}
}
