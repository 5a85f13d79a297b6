package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Engine owns the lifecycle of sessions. Safe for concurrent use.
type Engine struct {
	o      Options
	log    zerolog.Logger
	limits limits
	outage outage
	orphan orphans
	calls  atomic.Uint64 // numbers requests
	secret [32]byte      // keys the marks of contexts; new in every process
	damper damper        // of changes of credentials
	oldest ageCache

	finders *sync.Pool

	mu       sync.Mutex // guards what follows, and the fields of every entry; never held during I/O
	entries  map[journal.Ref]*entry
	idle     idleList        // live and unleased, least recently used first
	live     int             // entries with a runtime
	leases   int             // held just now, creates under way included
	gone     map[*run]*entry // detached runtimes that are still in use
	stopping bool            // no new leases
	stopped  bool            // no new runtimes
	drained  chan struct{}   // closed when stopping and no lease is left

	expiring chan struct{} // held by the one expiry run
	wg       sync.WaitGroup
	stop     context.CancelFunc
}

// New returns a running engine. Shutdown must be called in the end.
func New(o Options) (*Engine, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	e := &Engine{
		o:        o,
		log:      o.Logger,
		limits:   newLimits(o.MaxSessions, o.MaxPerTenant, o.MaxPerPrincipal),
		outage:   outage{grace: o.OutageGrace},
		entries:  map[journal.Ref]*entry{},
		gone:     map[*run]*entry{},
		drained:  make(chan struct{}),
		expiring: make(chan struct{}, 1),
		finders:  newFinderPool(),
	}
	_, _ = rand.Read(e.secret[:]) // never fails: it aborts the process instead
	e.idle.init()
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	e.wg.Go(func() { e.keepHouse(ctx) })
	e.wg.Go(func() { e.keepExpiring(ctx) })
	return e, nil
}

// closeGrace is how long Shutdown waits for runtimes to close when its context has ended.
const closeGrace = 5 * time.Second

// Shutdown refuses new requests with ErrNotReady, waits until all leases are released or ctx has ended,
// then stops the sweeps, closes the runtimes and returns. It journals nothing about sessions: they are
// dormant until the next start. If ctx ends first, runtimes are closed under their leases, which may take
// another five seconds, and ctx's cause is returned. Streams hold leases: end them before. A second call
// returns at once. The Appender and Table must stay open until Shutdown has returned.
func (e *Engine) Shutdown(ctx context.Context) error {
	if !e.beginStop() {
		return nil
	}
	var err error
	select {
	case <-e.drained:
	case <-ctx.Done():
		e.mu.Lock()
		err = fmt.Errorf("%d requests and streams still under way: %w", e.leases, context.Cause(ctx))
		e.mu.Unlock()
	}
	if err == nil {
		e.closeOrphans(ctx)
	}
	e.stop()
	e.closeRuntimes()
	return errors.Join(err, e.wait(ctx))
}

// wait waits for the engine's goroutines.
func (e *Engine) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.wg.Wait()
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-done:
		return nil
	case <-grace.C:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("runtimes do not close: %w", context.Cause(ctx))
	}
}

func (e *Engine) beginStop() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return false
	}
	e.stopping = true
	if e.leases == 0 {
		close(e.drained)
	}
	return true
}

func (e *Engine) closeRuntimes() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	for r, en := range e.gone {
		delete(e.gone, r)
		r.users = never
		e.close(en, r)
	}
	for _, en := range e.entries {
		if en.wake != nil {
			en.wake.cancel()
		}
		e.unlive(en, true)
	}
}

// enter counts one more lease, or says that the engine is stopping.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return ErrNotReady
	}
	e.leases++
	return nil
}

// leave is the reverse of enter. e.mu is held.
func (e *Engine) leave() {
	e.leases--
	if e.stopping && e.leases == 0 {
		close(e.drained)
	}
}

// commit appends events and waits until they are folded. An error after they were stored is an
// ErrOutcomeUnknown: the fold will decide without us.
func (e *Engine) commit(ctx context.Context, events ...journal.Event) (journal.Position, error) {
	pos, err := e.o.Appender.Append(ctx, events...)
	if err != nil {
		err = unreachable(err)
		if ctx.Err() == nil && !errors.Is(err, journal.ErrTooLarge) {
			e.outage.note(time.Now())
		}
		return pos, err
	}
	if err := e.o.Table.WaitFor(ctx, pos.Seq); err != nil {
		return pos, fmt.Errorf("%w: stored at %s, not yet folded: %w", journal.ErrOutcomeUnknown, pos, err)
	}
	return pos, nil
}

// look reads one session from the fold.
func (e *Engine) look(ref journal.Ref) (s replay.Session, ok bool) {
	e.o.Table.View(func(st *replay.State) { s, ok = st.Session(ref) })
	return s, ok
}

// security writes a line of the security log.
func (e *Engine) security(what string) *zerolog.Event {
	return e.log.Warn().Bool("security", true).Str("event", what) //nolint:zerologlint // the caller sends it
}

// send ends a security line with the seed's text.
func send(ev *zerolog.Event, what string) { ev.Msg("[SECURITY] " + what) }

var errPanic = errors.New("panic")
