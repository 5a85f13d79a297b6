package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

// stuckAfter is how long nothing may come, although the stream named more messages, until the reader asks for them.
const stuckAfter = 250 * time.Millisecond

// await waits for what ends a subscription. A damaged block file can take the stream's last messages, while the stream
// still names their sequences: no message behind them would ever show the gap, so the reader asks.
func (r *reader) await(ctx context.Context, broken <-chan error, status <-chan nats.Status) error {
	ticker := time.NewTicker(stuckAfter)
	defer ticker.Stop()
	look := ticker.C
	before, _ := r.position()
	var lost journal.Doubt
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-r.end:
			r.end <- err
			return err
		case err := <-broken:
			return fmt.Errorf("%w: %w", errBroken, err)
		case now := <-status:
			return fmt.Errorf("%w: the connection is %v now", errBroken, now)
		case <-look:
		}
		now, idle := r.position()
		switch {
		case idle && now >= r.last:
			look = nil // all that was there at the beginning has been read
		case !idle || now != before || !r.missing(ctx, now):
			before = now
			lost.Settle()
		case lost.Ripe(time.Now(), max(r.j.Patience(), stuckAfter)):
			return &journal.GapError{After: now, Next: r.last + 1}
		}
	}
}

// position returns the last message that was passed on, unless one is being passed on just now.
func (r *reader) position() (after journal.Seq, idle bool) {
	if !r.mu.TryLock() {
		return 0, false
	}
	defer r.mu.Unlock()
	return r.after, true
}

// missing reports whether the stream's leader has no message behind after.
func (r *reader) missing(ctx context.Context, after journal.Seq) bool {
	ctx, cancel := context.WithTimeout(ctx, shorterPatience)
	defer cancel()
	_, err := r.j.batches.GetMsg(ctx, uint64(after)+1, js.WithGetMsgSubject(r.j.prefix+".batch.*"))
	return errors.Is(err, js.ErrMsgNotFound)
}
