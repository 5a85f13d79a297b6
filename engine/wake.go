package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/dormouse-mcp/dormouse/replay"
)

// wake is one wake under way. All who want the runtime meanwhile wait for this one; the next request after
// a failed one tries again.
type wake struct {
	done    chan struct{} // closed when it has ended
	err     error         // set before done is closed
	cancel  context.CancelFunc
	waiters int  // guarded by Engine.mu
	left    bool // all who waited went away: whoever came since tries again; guarded by Engine.mu
}

// Runtime returns the session's runtime, and wakes the session if it is dormant: all who ask meanwhile
// share one wake, which goes on while anybody waits, at most Options.WakeTimeout. It fails with the
// waker's error, ErrUnknownSession if the session has ended, or ctx's cause. The runtime may be used until
// the lease is released or Runtime is called again: if another replica took the session over meanwhile,
// the second call gives another one.
func (l *Lease) Runtime(ctx context.Context) (Runtime, error) {
	for {
		rt, w, err := l.e.runtime(ctx, l)
		if rt != nil || err != nil {
			return rt, err
		}
		if again, err := l.e.await(ctx, w); err != nil && !again {
			return nil, err
		}
	}
}

// runtime returns the runtime, or the wake to wait for.
func (e *Engine) runtime(ctx context.Context, l *Lease) (Runtime, *wake, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	en := l.entry
	switch {
	case l.released:
		return nil, nil, errors.New("lease is released")
	case en.ended:
		return nil, nil, ErrUnknownSession
	case e.stopped:
		return nil, nil, ErrNotReady
	case en.run != nil:
		return e.use(l), nil, nil
	case en.wake == nil:
		e.startWake(ctx, en)
	}
	en.wake.waiters++
	return nil, en.wake, nil
}

// await waits for w or ctx; again says that w failed only because others gave it up.
func (e *Engine) await(ctx context.Context, w *wake) (again bool, err error) {
	select {
	case <-w.done:
		err = w.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	again = w.left && ctx.Err() == nil
	if w.waiters--; w.waiters == 0 {
		w.left = true
		w.cancel()
	}
	return again, err
}

// startWake begins a wake with the values of ctx, but not its end. e.mu is held.
func (e *Engine) startWake(ctx context.Context, en *entry) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), e.o.WakeTimeout, errWakeTimeout)
	w := &wake{done: make(chan struct{}), cancel: cancel}
	en.wake = w
	closing := en.closing
	e.wg.Go(func() {
		defer cancel()
		if closing != nil {
			<-closing
		}
		start := time.Now()
		r, err := e.wakeUp(ctx, en)
		e.o.Observer.SessionWoke(time.Since(start), err)
		e.woke(en, w, r, err)
	})
}

var (
	errWakeTimeout = errors.New("took too long to wake")
	errNoWaker     = errors.New("session cannot be woken: the engine has no waker")
)

func (e *Engine) wakeUp(ctx context.Context, en *entry) (*run, error) {
	if e.o.Waker == nil {
		return nil, errNoWaker
	}
	before, ok := e.look(en.ref)
	if !ok {
		return nil, ErrUnknownSession
	}
	s := &Session{e: e, id: en.session.id, ref: en.ref}
	s.see(before.Epoch)
	var rt Runtime
	err := guard(func() (err error) {
		rt, err = e.o.Waker.Wake(ctx, s)
		return err
	})
	if err != nil {
		return nil, e.wakeError(ctx, &before, err)
	}
	if rt == nil {
		return nil, fmt.Errorf("wake session %s: the waker gave no runtime", en.ref)
	}
	return &run{rt: rt, session: s, context: bytes.Clone(before.Context)}, nil
}

func (e *Engine) wakeError(ctx context.Context, s *replay.Session, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errWakeTimeout) && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	e.log.Warn().Err(err).Stringer("session", s.Ref).Stringer("tenant", s.Tenant).Msg("session does not wake")
	return fmt.Errorf("wake session %s: %w", s.Ref, err)
}

// woke ends a wake: it installs the runtime, or closes it when the session has ended meanwhile.
func (e *Engine) woke(en *entry, w *wake, r *run, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	en.wake = nil
	switch {
	case en.ended:
		err = ErrUnknownSession
	case err == nil:
		err = e.install(en, r)
	}
	if err != nil && r != nil {
		e.close(en, r)
	}
	w.err = err
	close(w.done)
	e.forget(en)
}

// install gives the entry a fresh runtime; if it cannot, the runtime is the caller's to close. e.mu is held.
func (e *Engine) install(en *entry, r *run) error {
	if e.stopped {
		return ErrNotReady
	}
	en.run = r
	e.live++
	if en.leases == 0 { // all who waited for it went away
		e.rest(en, time.Now())
	}
	e.trim()
	return nil
}

// guard turns a panic of a waker or runtime, which would end every session in the process, into an error.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
		}
	}()
	return fn()
}
