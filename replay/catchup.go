package replay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// query is one question to the stream's leader, shared by all who came before it was asked.
type query struct {
	done chan struct{} // closed once last and err are set
	last journal.Seq
	err  error
}

// asker asks the leader one question at a time. Safe for concurrent use.
type asker struct {
	mu      sync.Mutex
	asking  bool
	next    *query // not asked yet: whoever comes now may share it
	started time.Time
}

// CatchUp returns once the follower has folded everything up to the last message that the stream's leader
// named after the call: a session that is unknown then did not exist anywhere at the call. Calls share
// questions, which are rate-limited, but never one that was asked before. It fails with ctx's cause, with
// the source's error, or with Err if the follower stopped.
func (f *Follower) CatchUp(ctx context.Context) error {
	q := f.ask() //nolint:contextcheck // callers share questions, which outlive each of them
	select {
	case <-q.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.done:
		return f.Err()
	}
	if q.err != nil {
		return q.err
	}
	return f.WaitFor(ctx, q.last)
}

// ask returns a question that will be asked after the call.
func (f *Follower) ask() *query {
	a := &f.asker
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next = &query{done: make(chan struct{})}
	}
	q := a.next
	if !a.asking && f.begin() {
		a.asking = true
		go f.answer()
	}
	return q
}

// answer asks questions until there are none.
func (f *Follower) answer() {
	defer f.end()
	for q := f.takeQuery(); q != nil; q = f.takeQuery() {
		q.last, q.err = f.askLeader()
		close(q.done)
	}
}

// askLeader returns the stream's last sequence. A stream that ends before what was folded has lost it, and
// will use those sequences again for messages that this follower would never read: that stops it. But a new leader of a
// replicated stream may need some seconds until it knows what was acknowledged: it is asked again, and meanwhile the
// stream counts as unavailable.
func (f *Follower) askLeader() (journal.Seq, error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.o.QueryTimeout)
	defer cancel()
	for {
		folded := f.tail.current().Seq
		bounds, err := f.o.Source.Bounds(ctx)
		if err != nil || bounds.Last >= folded {
			if err == nil {
				f.shrunk.Settle()
			}
			return bounds.Last, err
		}
		shrunk := &ShrunkError{Last: bounds.Last, Folded: folded}
		if f.shrunk.Ripe(time.Now(), f.o.Source.Patience()) {
			f.cancel(shrunk)
			return bounds.Last, shrunk
		}
		again := time.NewTimer(shrunkPause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			// Not the error itself: it is damage to everybody who looks.
			return 0, fmt.Errorf("%w: its leader does not know message %d yet", journal.ErrUnavailable, folded)
		}
	}
}

// shrunkPause is how long a leader that does not know everything yet is left alone.
const shrunkPause = 100 * time.Millisecond

// takeQuery waits until the next question may be asked and takes it, so that later callers need another.
func (f *Follower) takeQuery() *query {
	a := &f.asker
	a.mu.Lock()
	pause := f.o.QueryEvery - time.Since(a.started)
	if a.next == nil || pause <= 0 {
		defer a.mu.Unlock()
		return a.take()
	}
	a.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.take()
}

func (a *asker) take() *query {
	q := a.next
	a.next = nil
	a.asking = q != nil
	a.started = time.Now()
	return q
}
