package engine

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Appender writes events. *commit.Committer implements it. Safe for concurrent use.
type Appender interface {
	// Append returns when the events are durable, all in one batch, with the position of the first.
	Append(ctx context.Context, events ...journal.Event) (journal.Position, error)
	// Post takes an access event and returns at once.
	Post(e journal.Event)
}

// Table is the folded state. *replay.Follower implements it. Safe for concurrent use.
type Table interface {
	// View calls fn with the state, which nobody changes meanwhile. fn must be quick and keep nothing of it.
	View(fn func(*replay.State))
	// WaitFor returns once the state is folded up to seq.
	WaitFor(ctx context.Context, seq journal.Seq) error
	// CatchUp returns once the state is folded up to what the stream's leader named after the call.
	CatchUp(ctx context.Context) error
}

// Vault seals and opens what belongs to a tenant. *seal.Vault implements it. Safe for concurrent use.
type Vault interface {
	// Key returns the tenant's current data key, made and stored durably if there is none.
	Key(ctx context.Context, t journal.TenantID) (journal.KeyID, journal.Fingerprint, error)
	// Seal seals plain under the tenant's data key k, for this purpose and this session alone.
	Seal(ctx context.Context, t journal.TenantID, k journal.KeyID, p journal.Purpose, r journal.Ref, plain []byte) (journal.Sealed, error)
	// Open opens what Seal sealed. It fails with journal.ErrKeyErased, ErrKeyMissing or ErrWrongKey.
	Open(ctx context.Context, t journal.TenantID, k journal.KeyID, p journal.Purpose, r journal.Ref, sealed journal.Sealed) ([]byte, error)
}

// Runtime is the live half of a session: whatever answers its requests. ServeHTTP is called between Wake and Close
// alone, by everybody who got the runtime from a [Lease], at once. The engine calls Close once, when nobody who got it
// holds that lease any more, or when the session has ended: then requests may be under way, which Close is to end. Until
// Close has returned, the session does not wake again, so that it never has two runtimes here. What a runtime holds in
// memory is gone with it; what is to stay stands in the session ([Session.State], [Session.Change]).
//
// A runtime that also implements [Rotator] outlives a change of its session's credentials.
type Runtime interface {
	http.Handler
	io.Closer
}

// Rotator is what a Runtime may implement to go on with a session's new instance context. If it does
// not, or Rotate fails, the runtime is closed and the session wakes anew at its next request. Rotate may be called
// while requests are under way, and more than once for one change.
type Rotator interface {
	Rotate(ctx context.Context, ic InstanceContext) error
}

// Waker makes the runtime of a dormant session, from what the session's handle says: [Session.State] for what it was
// opened with, [Session.Context] for its credentials, [Session.Binding] for what it has outside this process. The engine
// calls it once at a time for any one session. ctx carries the values of the request that wakes the session, ends after
// Options.WakeTimeout or when nobody waits any more, and is no longer valid once Wake has returned; the handle is, for
// as long as the runtime lives. After an error nothing may be held, and the next request tries again. A panic is an
// error. Safe for concurrent use.
//
// Who has something outside this process that belongs to the session, and that other replicas and later processes are
// to find (an upstream's session), claims an epoch for it with [Session.Claim] and records it with [Session.Bind]; who
// finds it lost claims the next epoch. Of two that claim at once, one gets ErrClaimLost and adopts what the other
// records.
type Waker interface {
	Wake(ctx context.Context, s *Session) (Runtime, error)
}

// Observer hears what a metrics adapter counts. Its methods must return at once and may be called
// concurrently.
type Observer interface {
	SessionCreated()
	// SessionEnded is called for sessions that this engine ended: by KindClosed with its reason, or by
	// KindExpired with reason zero.
	SessionEnded(kind journal.Kind, reason journal.Reason)
	SessionWoke(d time.Duration, err error)
	SessionHibernated()
	LimitReached()
}

// noObserver hears nothing.
type noObserver struct{}

// SessionCreated does nothing.
func (noObserver) SessionCreated() {}

// SessionEnded does nothing.
func (noObserver) SessionEnded(journal.Kind, journal.Reason) {}

// SessionWoke does nothing.
func (noObserver) SessionWoke(time.Duration, error) {}

// SessionHibernated does nothing.
func (noObserver) SessionHibernated() {}

// LimitReached does nothing.
func (noObserver) LimitReached() {}
