package replay

import (
	"context"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// tail is the end of what was folded, for those who wait for it. Many wait for the same sequence, because
// a batch carries many events: they share one channel. Safe for concurrent use.
type tail struct {
	mu      sync.Mutex
	basis   journal.Basis
	waiters map[journal.Seq]*waiter
}

type waiter struct {
	reached chan struct{}
	count   int
}

func newTail() tail { return tail{waiters: make(map[journal.Seq]*waiter)} }

func (t *tail) current() journal.Basis {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.basis
}

// advance tells everybody who waits for a sequence up to that of to.
func (t *tail) advance(to journal.Basis) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.basis.Seq
	t.basis = to
	if uint64(to.Seq-from) > uint64(len(t.waiters)) {
		for seq := range t.waiters {
			t.reach(seq)
		}
		return
	}
	for seq := from + 1; seq <= to.Seq; seq++ {
		t.reach(seq)
	}
}

func (t *tail) reach(seq journal.Seq) {
	if w := t.waiters[seq]; w != nil && seq <= t.basis.Seq {
		close(w.reached)
		delete(t.waiters, seq)
	}
}

// await returns a channel that is closed once seq is folded, or nil if it is; the caller calls leave if
// it gives up before.
func (t *tail) await(seq journal.Seq) *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq <= t.basis.Seq {
		return nil
	}
	w := t.waiters[seq]
	if w == nil {
		w = &waiter{reached: make(chan struct{})}
		t.waiters[seq] = w
	}
	w.count++
	return w
}

func (t *tail) leave(seq journal.Seq, w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.count--; w.count == 0 && t.waiters[seq] == w {
		delete(t.waiters, seq)
	}
}

// WaitFor returns once the follower has folded the message at seq: View then shows its effects. It
// fails with ctx's cause, or with Err if the follower stopped before.
func (f *Follower) WaitFor(ctx context.Context, seq journal.Seq) error {
	w := f.tail.await(seq)
	if w == nil {
		return nil
	}
	select {
	case <-w.reached:
		return nil
	case <-ctx.Done():
		f.tail.leave(seq, w)
		return context.Cause(ctx)
	case <-f.done:
		f.tail.leave(seq, w)
		return f.stopped(seq)
	}
}

// stopped is WaitFor's last look: seq may have been folded just before the follower stopped.
func (f *Follower) stopped(seq journal.Seq) error {
	if seq <= f.tail.current().Seq {
		return nil
	}
	return f.Err()
}
