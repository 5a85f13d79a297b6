package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

// errMoved says that another replica serves the session; nothing was executed here.
var errMoved = errors.New("the session is served by another replica")

const (
	routePatience = 20 * time.Second       // for a request whose session is being taken over, and of the whole replica for an election
	routeLeast    = 2 * time.Second        // for any request: a replica that has been cut off for longer hopes no more
	routePause    = 100 * time.Millisecond // before the next look at a replica that cannot be reached
	brokenPause   = 20 * time.Millisecond  // at most, where a connection broke before anything was sent: it may be dying
)

// forwarded marks requests that came from another replica: they are not forwarded again.
type forwarded struct{}

func isForwarded(r *http.Request) bool { return r.Context().Value(forwarded{}) != nil }

// local reports whether each session's runtime is in one replica alone, and there are others.
func (w *Waker) local() bool { return w.o.Replicas != nil && !w.o.Upstream.Shared() }

// wherever has a session's request served where its runtime is: by here, or by another replica. here may find
// that the session has moved: then it leaves a.moved set and has written nothing.
func (g *Gateway) wherever(a *answer, r *http.Request, here func()) {
	if !g.o.Waker.local() {
		here()
		return
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), g.patience(r), errNoRoute)
	defer cancel()
	for {
		a.moved = false
		err := g.once(ctx, a, r, here)
		if err == nil && a.moved {
			err = g.o.Engine.CatchUp(ctx) // ours was an old view, or theirs
			if (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, journal.ErrUnavailable)) && ctx.Err() == nil {
				err = sleep(ctx, routePause) // the stream has no leader for the moment: the request has more patience than one question
			}
		}
		if err == nil && a.moved && !isForwarded(r) && ctx.Err() == nil {
			a.again()
			continue
		}
		if err != nil || a.moved {
			g.nowhere(a, r, err)
		}
		return
	}
}

// patience is how long a request waits for its session to be served somewhere. The servers of a stream need some seconds
// for an election. Where they have not answered for longer than that, it is this replica that is away, and its clients
// are better served by another one: they are told so soon.
func (g *Gateway) patience(r *http.Request) time.Duration {
	silent := time.Since(g.o.Waker.o.Replicas.Proven())
	patience := max(routePatience-silent, routeLeast)
	if isForwarded(r) {
		patience /= 2 // who forwarded it waits, too
	}
	return patience
}

var errNoRoute = errors.New("the session's replica is not found in time")

// once serves the request here, or forwards it once.
func (g *Gateway) once(ctx context.Context, a *answer, r *http.Request, here func()) error {
	id, _ := sessionOf(r.Header)
	owner, known, err := g.o.Engine.Locate(ctx, journal.SessionID(id))
	if err != nil {
		return err
	}
	if !known { // as here will find, and say
		here()
		return nil
	}
	w, err := g.o.Waker.o.Replicas.Locate(ctx, owner)
	if err != nil {
		return err
	}
	switch {
	case w.Place == replicas.There && w.URL != "" && isForwarded(r):
		a.moved = true
		return nil
	case w.Place == replicas.There && w.URL != "":
		return g.forward(ctx, a, r, owner, w)
	}
	if g.o.Waker.o.Replicas.May() != nil {
		a.moved = true // perhaps: it is looked for again
		return g.o.Waker.o.Replicas.Regain(ctx)
	}
	here()
	return nil
}

// nowhere answers a request that could not be served anywhere.
func (g *Gateway) nowhere(a *answer, r *http.Request, err error) {
	if a.begun() {
		a.cut = true
		return
	}
	if isForwarded(r) && (err == nil || errors.Is(err, replicas.ErrCutOff)) {
		a.Header().Set(headerMoved, "1")
		refuse(http.StatusMisdirectedRequest, codeUnavailable, "The session is served by another replica").write(a, nil)
		return
	}
	if r.Method == http.MethodGet {
		g.noStream(a, r, err)
		return
	}
	if err == nil {
		err = errNoRoute
	}
	a.fail(r.Context(), err, &g.o.Logger)
}

// noStream answers a GET that could not be served.
func (g *Gateway) noStream(a *answer, r *http.Request, err error) {
	passing := err == nil || problemOf(err).status == http.StatusServiceUnavailable
	if !passing || g.o.Waker.o.Replicas == nil || a.begun() || r.Context().Err() != nil {
		a.fail(r.Context(), err, &g.o.Logger)
		return
	}
	id, _ := sessionOf(r.Header)
	g.o.Waker.later(a, r, journal.SessionID(id).Ref())
}

// later answers a GET that cannot be served now with a stream that ends: its client opens another one. One that is
// refused may give its session up.
func (w *Waker) later(a *answer, r *http.Request, ref journal.Ref) {
	a.streams()
	a.WriteHeader(http.StatusOK)
	hello := []byte(": later\n\n")
	at, _ := w.cursors.decode(ref, r.Header.Get(headerLastEventID))
	if len(at.request) == 0 && r.Header.Get(headerVersion) >= versionNov {
		at.opening = rand.Uint64() | 1 //nolint:gosec // tells connections apart; nothing secret
		hello = appendEvent(hello, nil, w.cursors.encode(ref, at), nil, nil)
	}
	a.say(hello)
}

// mayServe says whether b, a binding to a runtime of this process, may still be used: nil, errMoved or ErrCutOff.
func (p *proxy) mayServe(b *binding) error {
	if !p.w.local() {
		return nil
	}
	if err := p.w.o.Replicas.May(); err != nil {
		return err
	}
	if st, ok := p.s.State(); ok && st.Epoch > b.epoch && st.Replica != p.w.o.Replica {
		return errMoved
	}
	return nil
}

// mayClaim says whether the epoch after rec may be claimed: not while another replica serves it.
func (w *Waker) mayClaim(ctx context.Context, rec engine.Binding) (replicas.Where, error) {
	if !w.local() || rec.Replica == "" {
		return replicas.Where{Place: replicas.Here}, nil
	}
	at, err := w.o.Replicas.Locate(ctx, rec.Replica)
	if err != nil {
		return at, err
	}
	if at.Place == replicas.There && at.URL != "" {
		return at, errMoved
	}
	return at, nil
}

// took notes a claim of what belonged to another replica, until it is settled in any case.
func (w *Waker) took(ref journal.Ref, c replicas.Claim) {
	w.claims.took(ref, c)
	time.AfterFunc(w.o.Replicas.SettledWithin(), func() { w.claims.settled(ref, c) })
}

// settle waits until what was claimed from another replica is served by nobody there.
func (w *Waker) settle(ctx context.Context, ref journal.Ref) error {
	if !w.local() {
		return nil
	}
	c, ok := w.claims.from(ref)
	if !ok {
		return nil
	}
	if err := w.o.Replicas.Settled(ctx, c); err != nil {
		return err
	}
	w.claims.settled(ref, c)
	return nil
}
