package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Committer appends the events of one writer. Safe for concurrent use. Close it.
type Committer struct {
	o      Options
	recent recent
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the loop has ended
	calls  sync.Pool     // of *call

	mu       sync.Mutex
	queue    callQueue
	accesses accesses
	idle     bool          // the loop waits on wake
	wake     chan struct{} // holds one
	closing  bool
	fatal    error     // set once: the writer is done for
	down     error     // why the stream does not answer; nil while it does
	downAt   time.Time // since when
	stalled  bool      // down, with a batch in doubt: nothing else can go out
	probeAt  time.Time // while down: when an Append may try again
	stats    Stats

	// The loop's own.
	number   uint64         // of the batch committed last
	last     journal.Seq    // its sequence
	expect   journal.Seq    // last, or zero after it was trimmed away
	previous journal.Digest // of it
	crowd    int            // calls in the batch committed last
	spare    batch          // memory for the next one
	doubt    journal.Doubt  // of what the stream says against last
	backoff  time.Duration
	retryAt  time.Time // when accesses alone may try again
	timer    *time.Timer
}

// New starts a committer. The writer in o must be new to the stream.
func New(o Options) (*Committer, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &Committer{
		o:      o,
		recent: recent{maxBatches: o.KeepBatches, maxBytes: o.KeepBytes},
		cancel: cancel,
		done:   make(chan struct{}),
		wake:   make(chan struct{}, 1),
		timer:  time.NewTimer(time.Hour),
	}
	c.timer.Stop()
	c.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	go c.run(ctx)
	return c, nil
}

// Writer returns the writer whose batches these are.
func (c *Committer) Writer() journal.WriterID { return c.o.Writer }

// Append stores events, all in one batch and in their order, and returns once they are durable, with the
// position of the first; the others follow it. The caller may reuse the slice, not what events point to.
//
// Errors: journal.ErrUnavailable, journal.ErrClosed, journal.ErrTooLarge and the cause of ctx (nothing was
// stored); journal.ErrOutcomeUnknown, with the cause of ctx if that is why (the events may be stored, or may
// yet be); journal.ErrForeignBatch and journal.ErrDamaged (this writer can do no more, ever).
func (c *Committer) Append(ctx context.Context, events ...journal.Event) (journal.Position, error) {
	if len(events) == 0 {
		return journal.Position{}, nil
	}
	size, err := measure(events)
	if err != nil {
		return journal.Position{}, err
	}
	return c.do(ctx, events, size)
}

// Flush returns once everything that was handed over before is settled: stored, or refused to its caller.
// Errors are those of Append; after journal.ErrUnavailable, posted accesses still wait.
func (c *Committer) Flush(ctx context.Context) error {
	_, err := c.do(ctx, nil, 0)
	return err
}

func (c *Committer) do(ctx context.Context, events []journal.Event, size int) (journal.Position, error) {
	if ctx.Err() != nil {
		return journal.Position{}, context.Cause(ctx)
	}
	k := c.calls.Get().(*call)
	k.events, k.size = append(k.events[:0], events...), size
	c.mu.Lock()
	if err := c.refusal(); err != nil {
		c.mu.Unlock()
		c.recycle(k)
		return journal.Position{}, err
	}
	k.after = c.accesses.end()
	c.queue.push(k)
	c.wakeLoop()
	c.mu.Unlock()
	select {
	case <-k.done:
		return c.answer(k)
	case <-ctx.Done():
		return c.abandon(ctx, k)
	}
}

// refusal says why a call cannot even be queued. The lock is held.
func (c *Committer) refusal() error {
	switch {
	case c.fatal != nil:
		return c.fatal
	case c.closing:
		return journal.ErrClosed
	case c.down != nil && (c.stalled || time.Now().Before(c.probeAt)) && !c.patient():
		return c.down
	default:
		return nil
	}
}

// abandon ends a call whose caller waits no longer.
func (c *Committer) abandon(ctx context.Context, k *call) (journal.Position, error) {
	c.mu.Lock()
	queued, settled := k.state == callQueued, k.settled()
	if queued {
		c.queue.remove(k)
	}
	c.mu.Unlock()
	switch {
	case queued:
		c.recycle(k)
		return journal.Position{}, context.Cause(ctx)
	case settled:
		<-k.done
		return c.answer(k)
	default: // frozen: the loop still uses it
		return journal.Position{}, fmt.Errorf("%w: %w", journal.ErrOutcomeUnknown, context.Cause(ctx))
	}
}

// answer returns the result of a call that is done.
func (c *Committer) answer(k *call) (journal.Position, error) {
	r := k.result
	c.recycle(k)
	return r.pos, r.err
}

func (c *Committer) recycle(k *call) {
	clear(k.events)
	k.batch, k.result = nil, result{}
	c.calls.Put(k)
}

// wakeLoop ends the loop's waiting. The lock is held.
func (c *Committer) wakeLoop() {
	if !c.idle {
		return
	}
	c.idle = false
	select {
	case c.wake <- struct{}{}:
	default: // a token is still there, and wakes as well
	}
}

// Post hands over an event that nobody waits for, an access in general, and returns at once. It goes out
// with the next Append, or alone after Options.Linger. It is lost only if the process ends without Close,
// or if the stream stays out of reach until Options.MaxBuffered is passed: then each session's newest
// access is kept for as long as there is room.
func (c *Committer) Post(e journal.Event) {
	fits := e.Kind != 0 && sizeOf(&e) <= journal.MaxBatchBytes
	c.mu.Lock()
	defer c.mu.Unlock()
	if !fits || c.closing || c.fatal != nil {
		c.dropped(0, 1)
		return
	}
	c.accesses.post(e)
	n := c.accesses.len()
	if n > c.o.MaxBuffered {
		c.shrink()
	}
	// The loop must arm its timer for the first, and need not linger with a full batch.
	if n == 1 || n == journal.MaxBatchEvents {
		c.wakeLoop()
	}
}

// shrink makes room for an eighth of the buffer. The lock is held.
func (c *Committer) shrink() {
	superseded, lost, moved := c.accesses.shrink(c.o.MaxBuffered - c.o.MaxBuffered/8)
	for k := c.queue.front; k != nil; k = k.next {
		k.after = moved(k.after)
	}
	c.dropped(superseded, lost)
}

func (c *Committer) dropped(superseded, lost int) {
	if superseded == 0 && lost == 0 {
		return
	}
	c.stats.Superseded += uint64(superseded)
	c.stats.Lost += uint64(lost)
	c.o.Observer.AccessesDropped(superseded, lost)
}

// Recent returns the events of one of this writer's own batches, so that who reads it back from the stream
// need not open it, and forgets them. digest must be that of what was published. False: not ours, not known any
// more, or taken already.
func (c *Committer) Recent(w journal.WriterID, number uint64, digest journal.Digest) ([]journal.Event, bool) {
	if w != c.o.Writer {
		return nil, false
	}
	return c.recent.take(number, digest)
}

// Close refuses new events with journal.ErrClosed, stores those that wait, and ends the committer. If ctx
// ends first, it gives up: Close then says how many accesses are lost, and callers of Append get
// journal.ErrOutcomeUnknown or journal.ErrClosed. Every call waits for the end.
func (c *Committer) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closing = true
	c.wakeLoop()
	c.mu.Unlock()
	var err error
	select {
	case <-c.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
		c.cancel(journal.ErrClosed)
		<-c.done
	}
	c.cancel(journal.ErrClosed)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal != nil && !errors.Is(c.fatal, journal.ErrClosed) {
		err = c.fatal
	}
	if n := c.stats.Unsaved; n > 0 {
		return fmt.Errorf("close: %d posted accesses were not stored: %w", n, errOr(err, journal.ErrUnavailable))
	}
	return err
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
