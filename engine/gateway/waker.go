package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

// WakerOptions configures a Waker.
type WakerOptions struct {
	Upstream Upstream // required

	// Replica is engine.Options.Replica. With it, a claim that this replica made and did not live to use is
	// taken over at once instead of after some seconds.
	Replica journal.ReplicaID

	// Replicas knows the other replicas; nil = there are none.
	Replicas *replicas.Directory

	// UpstreamWait is how long a request waits for an upstream that is down; 0 = 30 s.
	UpstreamWait time.Duration

	// AnswerWait is how long the upstream may be silent while a call waits for the beginning of its answer; 0 = 5 min. An
	// upstream that answers anything at all, a ping for instance, is not silent.
	AnswerWait time.Duration

	// QuickWait is the same for requests that no server needs long for, as initialize and tools/list; 0 = 30 s. An upstream
	// that is silent for a third of it is pinged (after 10 s at most), and told as an outage if that is not answered.
	QuickWait time.Duration

	// EventKey authenticates the IDs of server-sent events: 16 bytes or more, the same on every replica and
	// after every restart. Empty = random, so that after a restart clients cannot resume a stream.
	EventKey []byte

	// Keepalive is the time between two comments on an idle GET stream; 0 = 25 s.
	Keepalive time.Duration

	// MaxEvent bounds one server-sent event or one JSON answer to initialize, in bytes; 0 = 64 MiB.
	MaxEvent int

	Observer Observer // nil = nobody

	Logger zerolog.Logger
}

func (o *WakerOptions) complete() error {
	if o.Upstream == nil {
		return errors.New("waker options: Upstream must be set")
	}
	if o.UpstreamWait < 0 || o.AnswerWait < 0 || o.QuickWait < 0 || o.Keepalive < 0 || o.MaxEvent < 0 {
		return errors.New("waker options: a limit is negative")
	}
	if o.UpstreamWait == 0 {
		o.UpstreamWait = 30 * time.Second
	}
	if o.AnswerWait == 0 {
		o.AnswerWait = 5 * time.Minute
	}
	if o.QuickWait == 0 {
		o.QuickWait = 30 * time.Second
	}
	if o.Observer == nil {
		o.Observer = nobodyHears{}
	}
	if o.Keepalive == 0 {
		o.Keepalive = 25 * time.Second
	}
	if o.MaxEvent == 0 {
		o.MaxEvent = 64 << 20
	}
	if len(o.EventKey) == 0 {
		o.EventKey = make([]byte, 32)
		_, _ = rand.Read(o.EventKey) // never fails
	}
	if len(o.EventKey) < 16 {
		return fmt.Errorf("waker options: event key of %d bytes: want 16 or more", len(o.EventKey))
	}
	return nil
}

// Waker makes the runtimes that carry sessions' requests to one upstream, and holds what they share. It
// implements engine.Waker. Safe for concurrent use.
type Waker struct {
	o       WakerOptions
	health  *health
	outages outages
	meter   *meter
	cursors cursorCodec
	readers readers
	buffers buffers
	tools   hints
	claims  claims
	streams streams
	works   works

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup // upstream sessions being ended
}

// NewWaker returns the waker for an upstream.
func NewWaker(o WakerOptions) (*Waker, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &Waker{
		o: o, health: newHealth(), meter: newMeter(o.Upstream.Shared()), cursors: cursorCodec{key: o.EventKey},
	}, nil
}

// Wake returns the runtime of a session. It does no more than that: what the upstream has to be told is
// told with the headers of the request that woke the session.
func (w *Waker) Wake(_ context.Context, s *engine.Session) (engine.Runtime, error) {
	return w.runtime(s, nil), nil
}

// Close waits until the ends of sessions under way have been told to the upstream, or ctx ends. Gateway.Shutdown
// calls it.
func (w *Waker) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		w.tasks.Wait() // tasks have time limits of their own
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// background runs a task that Close waits for, unless Close has been called.
func (w *Waker) background(task func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.tasks.Go(task)
	}
}

// forsake tells the upstream in the background that a session of its is not needed any more.
func (w *Waker) forsake(ctx context.Context, b *binding, protocol string, who caller) {
	if b == nil || b.id == "" {
		return
	}
	conn, id := b.conn, b.id
	who.header = who.header.Clone() // the request may be over before
	w.background(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		resp, err := w.send(ctx, conn, outgoing{method: http.MethodDelete, who: who, session: id, protocol: protocol})
		if err != nil {
			w.o.Logger.Debug().Err(err).Msg("upstream session not ended")
			return
		}
		defer resp.Body.Close()
		drain(resp.Body)
	})
}

// claims knows for which sessions this process is using a claim just now: one of its own that it finds in
// the journal and does not use is left over from before.
type claims struct {
	mu        sync.Mutex
	by        map[journal.Ref]int            // runtimes; while one is being replaced there may be two
	unsettled map[journal.Ref]replicas.Claim // the former owner may still be serving
}

// took notes a claim of what belonged to another replica.
func (c *claims) took(ref journal.Ref, claim replicas.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsettled == nil {
		c.unsettled = make(map[journal.Ref]replicas.Claim)
	}
	c.unsettled[ref] = claim
}

func (c *claims) from(ref journal.Ref) (claim replicas.Claim, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	claim, ok = c.unsettled[ref]
	return claim, ok
}

func (c *claims) settled(ref journal.Ref, claim replicas.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsettled[ref] == claim {
		delete(c.unsettled, ref)
	}
}

func (c *claims) begin(ref journal.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[journal.Ref]int)
	}
	c.by[ref]++
}

func (c *claims) end(ref journal.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[ref]--; c.by[ref] == 0 {
		delete(c.by, ref)
	}
}

func (c *claims) underway(ref journal.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[ref] > 0
}
