package engine

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Lease holds a session for one request or stream: it is neither hibernated nor expired meanwhile, and
// when it lasts, touched events tell all replicas that it is in use. Release must be called.
// Safe for concurrent use.
type Lease struct {
	e        *Engine
	entry    *entry
	run      *run // guarded by Engine.mu
	released bool // guarded by Engine.mu
	unproven bool // see Unproven; of the goroutine that has acquired it
}

// Session returns the handle on the session. It stays valid after Release.
func (l *Lease) Session() *Session { return l.entry.session }

// Begin journals, without waiting, that a request has begun. method is the JSON-RPC method, or "GET" or
// "DELETE"; tool the tool's name in tools/call.
func (l *Lease) Begin(method, tool string) *Call {
	c := &Call{
		e: l.e, entry: l.entry, start: time.Now(),
		call: journal.Call{Number: l.e.calls.Add(1), Method: method, Tool: tool},
	}
	c.post(journal.KindOpened, journal.InstantOf(c.start))
	return c
}

// Release gives the session back. Further calls do nothing.
func (l *Lease) Release() {
	now := time.Now()
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if !l.released {
		l.released = true
		l.e.drop(l, now)
	}
}

// Close ends the session: it journals closed durably, and closes the runtime when that is folded. The
// lease must still be released. A session that has ended already is ErrUnknownSession.
func (l *Lease) Close(ctx context.Context, why journal.Reason) error {
	return l.e.Close(ctx, l.entry.ref, why)
}

// Call is one request under way. Safe for concurrent use.
type Call struct {
	e     *Engine
	entry *entry
	start time.Time
	call  journal.Call
	ended atomic.Bool
}

// Number names the call among those of this engine, as its events do.
func (c *Call) Number() uint64 { return c.call.Number }

// End journals, without waiting, how the request ended. Only the first call counts.
func (c *Call) End(o journal.Outcome) {
	if c.ended.Swap(true) {
		return
	}
	d := time.Since(c.start)
	c.call.Outcome, c.call.Duration = o, d.Truncate(time.Microsecond)
	c.post(journal.KindAccessed, journal.InstantOf(c.start.Add(d)))
}

func (c *Call) post(k journal.Kind, at journal.Instant) {
	c.entry.touch(at)
	c.e.o.Appender.Post(journal.Event{
		Kind: k, Ref: c.entry.ref, At: at, Epoch: journal.Epoch(c.entry.epoch.Load()), Call: c.call,
	})
}
