package replay

import (
	"context"
	"errors"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// View calls fn with the state, which does not change meanwhile. fn must be quick, keep nothing but
// copies, and not call the Follower.
func (f *Follower) View(fn func(*State)) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	fn(f.state)
}

// Basis returns the history folded so far, for the next batch's header. It is cheap.
func (f *Follower) Basis() journal.Basis { return f.tail.current() }

// Progress tells how far the follower has folded.
func (f *Follower) Progress() Progress {
	f.lifeMu.Lock()
	p := Progress{Ready: f.isReady, Target: f.target, Elapsed: f.took}
	f.lifeMu.Unlock()
	if !p.Ready {
		p.Elapsed = time.Since(f.started)
	}
	f.View(func(s *State) {
		p.Seq, p.Events, p.Sessions = s.Seq(), s.counters.events, s.Len()
	})
	p.Target = max(p.Target, p.Seq)
	return p
}

// Done is closed once the follower has stopped.
func (f *Follower) Done() <-chan struct{} { return f.done }

// Err says why the follower stopped: ErrClosed after Close, otherwise what is wrong with the stream.
// It is nil before.
func (f *Follower) Err() error {
	f.lifeMu.Lock()
	defer f.lifeMu.Unlock()
	return f.err
}

// Close stops the follower and waits until nothing of it runs any more. The state can still be viewed.
// It returns what stopped the follower before, if anything did.
func (f *Follower) Close() error {
	f.shut(ErrClosed)
	f.wg.Wait()
	if err := f.Err(); !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// shut makes everything stop that f started.
func (f *Follower) shut(cause error) {
	f.lifeMu.Lock()
	f.closing = true
	f.lifeMu.Unlock()
	f.cancel(cause)
}

// stop records why the reading ended.
func (f *Follower) stop(err error) {
	if f.ctx.Err() != nil && errors.Is(err, f.ctx.Err()) {
		err = context.Cause(f.ctx) // a source that returned the bare error
	}
	f.lifeMu.Lock()
	defer f.lifeMu.Unlock()
	f.err = err
	close(f.done)
}

// begin registers one more goroutine, unless the follower is closing.
func (f *Follower) begin() bool {
	f.lifeMu.Lock()
	defer f.lifeMu.Unlock()
	if f.closing {
		return false
	}
	f.wg.Add(1)
	return true
}

func (f *Follower) end() { f.wg.Done() }
