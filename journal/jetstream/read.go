package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	// pullBytes bounds what the server sends ahead. The default pull, a count of messages, drops large
	// messages as a slow consumer.
	pullBytes = 16 << 20

	heartbeat = time.Second // twice as long without one, and the consumer is made anew

	// A consumer whose reader is gone is forgotten after this.
	inactiveThreshold = time.Minute

	minBackoff = 50 * time.Millisecond
	maxBackoff = 500 * time.Millisecond

	// A server that was started again may need a moment until it knows the newest messages.
	shorterPatience = 5 * time.Second
)

// errBroken says that a subscription has ended and another one is needed.
var errBroken = errors.New("subscription broken")

// Read calls fn with every message whose sequence is greater than after, in order, one at a time, and goes
// on as new ones arrive. It survives reconnects and restarts of the server, and returns only for these
// reasons: ctx ends (its cause; fn is not called any more), fn returns an error (as it is; journal.ErrStop
// gives nil), a message that should be there is not (*journal.GapError), the stream has become shorter
// than what was read (journal.ErrDamaged), or the connection was closed (journal.ErrClosed).
func (j *Journal) Read(ctx context.Context, after journal.Seq, fn func(journal.Message) error) error {
	r := &reader{j: j, after: after, fn: fn, end: make(chan error, 1)}
	for {
		before := r.after
		err := r.subscribe(ctx)
		switch {
		case errors.Is(err, journal.ErrStop):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, errBroken):
			return err
		case j.nc.IsClosed():
			return fmt.Errorf("read: %w", journal.ErrClosed)
		}
		if r.after > before {
			r.backoff = 0
		}
		j.log.Debug().Err(err).Uint64("after", uint64(r.after)).Msg("reading the journal again")
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

// reader is one Read.
type reader struct {
	j       *Journal
	fn      func(journal.Message) error
	end     chan error // why fn is not called any more
	backoff time.Duration
	shorter journal.Doubt // that the stream ends before after
	last    journal.Seq   // the stream's last message when this subscription began

	mu        sync.Mutex // held while fn runs
	after     journal.Seq
	delivered uint64 // by this subscription, as the server counts
	turn      int    // counts up when a subscription ends: late messages of an older one are not handled
}

func (r *reader) pause(ctx context.Context) error {
	r.backoff = min(max(2*r.backoff, minBackoff), maxBackoff)
	return sleep(ctx, r.backoff)
}

// subscribe reads until something ends it: fn, a gap, ctx, or with errBroken the subscription.
func (r *reader) subscribe(ctx context.Context) error {
	if err := r.checkBounds(ctx); err != nil {
		return err
	}
	consumer, err := r.consumer(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	r.delivered = 0
	status := r.j.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer r.j.nc.RemoveStatusListener(status)
	broken := make(chan error, 1)
	turn := r.turn
	sub, err := consumer.Consume(func(m js.Msg) { r.handle(turn, m) }, js.PullMaxBytes(pullBytes), js.PullHeartbeat(heartbeat),
		js.ConsumeErrHandler(func(_ js.ConsumeContext, err error) {
			select {
			case broken <- err:
			default:
			}
		}))
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return r.stop(sub, r.await(ctx, broken, status))
}

// consumer makes a consumer of what comes after r.after. One server alone has it, in memory, perhaps one that is gone
// without anybody having noticed: so each question is for another one. What nobody reads is forgotten. (An ordered consumer
// of the client's would be made again by itself, and hold up whoever ends it until the server has answered.)
func (r *reader) consumer(ctx context.Context) (js.Consumer, error) {
	config := js.ConsumerConfig{
		DeliverPolicy: js.DeliverByStartSequencePolicy, OptStartSeq: uint64(r.after) + 1, AckPolicy: js.AckNonePolicy,
		InactiveThreshold: inactiveThreshold, Replicas: 1, MemoryStorage: true,
	}
	ask := func(ctx context.Context) (js.Consumer, error) { return r.j.batches.CreateConsumer(ctx, config) }
	c, _, err := askAgain(ctx, ask, func(js.Consumer, error) error { return nil })
	return c, err
}

// stop ends a subscription: afterwards fn is not running, and is not called by it any more. It returns why
// fn was not to be called any more, or else err.
func (r *reader) stop(sub js.ConsumeContext, err error) error {
	r.mu.Lock()
	r.turn++
	r.mu.Unlock()
	sub.Stop()
	select {
	case err = <-r.end:
	default:
	}
	return err
}

// checkBounds compares where to go on with what the stream holds.
func (r *reader) checkBounds(ctx context.Context) error {
	b, err := r.j.Bounds(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errBroken, err)
	case r.after+1 < b.First:
		return &journal.GapError{After: r.after, Next: b.First}
	case r.after <= b.Last:
		r.shorter.Settle()
		r.last = b.Last
	case !r.shorter.Ripe(time.Now(), max(r.j.Patience(), shorterPatience)):
		return errBroken
	default:
		return fmt.Errorf("%w: the stream ends at %d, but %d was read before", journal.ErrDamaged, b.Last, r.after)
	}
	return nil
}

// handle passes a message on. It runs on the subscription's goroutine.
func (r *reader) handle(turn int, m js.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if turn != r.turn {
		return
	}
	if err := r.pass(m); err != nil {
		r.turn++
		r.end <- err
	}
}

func (r *reader) pass(m js.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	seq := journal.Seq(meta.Sequence.Stream)
	r.delivered++
	switch {
	case meta.Sequence.Consumer != r.delivered:
		return fmt.Errorf("%w: message %d of this subscription came instead of %d", errBroken, meta.Sequence.Consumer, r.delivered)
	case seq <= r.after:
		return nil
	case seq != r.after+1:
		return &journal.GapError{After: r.after, Next: seq}
	}
	r.after = seq
	return r.fn(journal.Message{Seq: seq, Time: journal.InstantOf(meta.Timestamp), Data: m.Data()})
}
