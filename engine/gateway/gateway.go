package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Options configures a Gateway. Engine and Waker must be set.
type Options struct {
	Engine *engine.Engine
	Waker  *Waker // the one that Engine has

	// Identify tells who makes a request; Identifier.Identify fits. Its errors are answered 401
	// (ErrUnauthenticated), 400 (ErrBadContext), 503 (ErrAuthUnavailable) or 500. nil = callers are not told apart.
	Identify func(*http.Request) (engine.Caller, error)

	MaxBody int64 // bytes of a request body; 0 = 4 MiB

	// BodyTimeout is how long a client may take to send a body; 0 = 1 min.
	BodyTimeout time.Duration

	// AllowedOrigins are the origins of web pages that may use the gateway, as "https://app.example.com"; "*" =
	// all. Those of this machine always may; requests without an Origin do not come from pages.
	AllowedOrigins []string

	// AllowedHosts are names, besides those of the loopback interface, by which a gateway that listens there
	// may be called.
	AllowedHosts []string

	Limits Limits // how many requests are let through; the zero Limits are none

	Observer Observer // nil = nobody

	// Peers carries requests to other replicas; NewPeerTransport fits. nil = there are none.
	Peers http.RoundTripper

	Logger zerolog.Logger
}

const (
	defaultMaxBody     = 4 << 20
	defaultBodyTimeout = time.Minute
)

func (o *Options) complete() error {
	if o.Engine == nil || o.Waker == nil {
		return errors.New("gateway options: Engine and Waker must be set")
	}
	if o.MaxBody < 0 || o.BodyTimeout < 0 {
		return fmt.Errorf("gateway options: MaxBody of %d bytes, BodyTimeout of %v", o.MaxBody, o.BodyTimeout)
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.BodyTimeout == 0 {
		o.BodyTimeout = defaultBodyTimeout
	}
	if o.Observer == nil {
		o.Observer = nobodyHears{}
	}
	if o.Peers == nil {
		o.Peers = noPeers{}
	}
	if o.Identify == nil {
		o.Identify = func(*http.Request) (engine.Caller, error) { return engine.Caller{}, nil }
	}
	return o.Limits.complete()
}

// Gateway is the client-facing MCP endpoint, an http.Handler. Safe for concurrent use.
type Gateway struct {
	o       Options
	guard   guard
	quotas  *quotas
	telling *rate.Limiter // of the log about who is limited

	stopping context.Context //nolint:containedctx // ends the GET streams, which nothing else ends
	stop     context.CancelFunc
	under    atomic.Int64  // requests under way
	idle     chan struct{} // told when the last of them has ended while stopping
}

// New returns the gateway of an engine.
func New(o Options) (*Gateway, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	g := &Gateway{
		o: o, guard: newGuard(o.AllowedOrigins, o.AllowedHosts), quotas: newQuotas(o.Limits),
		telling: rate.NewLimiter(rate.Every(10*time.Second), 1), idle: make(chan struct{}, 1),
	}
	g.stopping, g.stop = context.WithCancel(context.Background())
	return g, nil
}

// Handler returns the gateway as what it is mounted as.
func (g *Gateway) Handler() http.Handler { return g }

// Shutdown answers new requests with 503, ends the GET streams, and waits for the requests under way. It
// fails with ctx's cause if some are left then. Call it before the engine's.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.stop()
	for g.under.Load() > 0 {
		select {
		case <-g.idle:
		case <-ctx.Done():
			return fmt.Errorf("%d requests under way: %w", g.under.Load(), context.Cause(ctx))
		}
	}
	return g.o.Waker.Close(ctx)
}

// leave is called when a request has been answered.
func (g *Gateway) leave() {
	if g.under.Add(-1) == 0 && g.stopping.Err() != nil {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// allowed are the methods of the endpoint.
const allowed = "GET, POST, DELETE"

// ServeHTTP answers one HTTP request of MCP's streamable HTTP transport.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.under.Add(1)
	defer g.leave()
	if !isForwarded(r) {
		if ok, why := g.guard.admit(w, r); !ok {
			if why != "" {
				g.o.Observer.RequestDenied(why)
			}
			return
		}
	}
	for _, name := range named(r.Header) { // an upstream will not see them, so nobody goes by them here
		delete(r.Header, name)
	}
	if g.stopping.Err() != nil {
		problemOf(engine.ErrNotReady).write(w, nil)
		return
	}
	switch r.Method {
	case http.MethodPost:
		g.post(w, r)
	case http.MethodGet:
		g.get(w, r)
	case http.MethodDelete:
		g.delete(w, r)
	default:
		w.Header().Set("Allow", allowed)
		refuse(http.StatusMethodNotAllowed, codeTransport, "Method not allowed").write(w, nil)
	}
}

// get serves the session's event stream.
func (g *Gateway) get(w http.ResponseWriter, r *http.Request) {
	if !accepts(r.Header, typeSSE) {
		refuse(http.StatusNotAcceptable, codeTransport, "Not Acceptable: Accept must list text/event-stream").write(w, nil)
		return
	}
	a := &answer{ResponseWriter: w, observer: g.o.Observer}
	defer a.written()
	g.wherever(a, r, func() { g.stream(a, r) })
	if a.cut {
		panic(http.ErrAbortHandler) // makes net/http break the connection
	}
}

// stream serves the session's event stream here.
func (g *Gateway) stream(a *answer, r *http.Request) {
	lease, err := g.acquire(r, 1)
	if err != nil {
		g.noStream(a, r, err)
		return
	}
	defer lease.Release()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	call, leave := g.begin(ctx, r, lease, cancel)
	defer leave()
	defer func() { call.End(a.byStatus()) }()
	rt, err := lease.Runtime(r.Context())
	if err != nil {
		g.noStream(a, r, err)
		return
	}
	defer context.AfterFunc(g.stopping, func() { cancel(engine.ErrNotReady) })() //nolint:contextcheck // the gateway's end ends it, too
	rt.ServeHTTP(a, r.WithContext(ctx))
	g.evict(r, lease, a)
}

// begin journals that a GET has begun. The session's own stream also gets its place among those on all replicas.
func (g *Gateway) begin(ctx context.Context, r *http.Request, lease *engine.Lease, cancel context.CancelCauseFunc) (*engine.Call, func()) {
	w, ref := g.o.Waker, lease.Session().Ref()
	method := w.streamMethod(ref, r)
	if method != http.MethodGet || w.o.Replicas == nil {
		return lease.Begin(method, ""), func() {}
	}
	st, leave := w.streams.announce(ref, cancel)
	call := lease.Begin(method, "")
	w.streams.await(ctx, st, call.Number())
	return call, leave
}

// delete ends the session at its client's wish.
func (g *Gateway) delete(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, observer: g.o.Observer}
	defer a.written()
	lease, err := g.acquire(r, 0)
	if err != nil {
		a.fail(r.Context(), err, &g.o.Logger)
		return
	}
	defer lease.Release()
	call := lease.Begin(http.MethodDelete, "")
	farewell := g.o.Waker.farewell(r.Context(), r, lease.Session())
	err = lease.Close(r.Context(), journal.ReasonClient)
	if err != nil {
		call.End(journal.OutcomeUnavailable)
		a.fail(r.Context(), err, &g.o.Logger)
		return
	}
	call.End(journal.OutcomeOK)
	farewell()
	w.WriteHeader(http.StatusNoContent)
}

// acquire finds the session of a request that must have one, and counts n messages for its owner.
func (g *Gateway) acquire(r *http.Request, n int) (*engine.Lease, error) {
	id, ok := sessionOf(r.Header)
	switch {
	case !ok && len(r.Header[headerSession]) > 1:
		return nil, refuse(http.StatusBadRequest, codeTransport, "Bad Request: more than one Mcp-Session-Id header")
	case !ok:
		return nil, engine.ErrUnknownSession
	case id == "":
		return nil, refuse(http.StatusBadRequest, codeTransport, "Bad Request: Mcp-Session-Id header is required")
	}
	c, err := g.identify(r)
	if err != nil {
		return nil, err
	}
	lease, err := g.o.Engine.Acquire(r.Context(), journal.SessionID(id), c)
	if err != nil {
		return nil, err
	}
	if err := g.prove(r, lease, c); err != nil {
		lease.Release()
		return nil, err
	}
	if err := g.quotas.request(&c, n); err != nil {
		lease.Release()
		g.tellLimited(&c)
		return nil, err
	}
	if v := r.Header.Get(headerVersion); v != "" && !knownVersion(v) {
		if st, ok := lease.Session().State(); !ok || st.Protocol != v {
			lease.Release()
			return nil, wrongVersion(v)
		}
	}
	return lease, nil
}

func (g *Gateway) identify(r *http.Request) (engine.Caller, error) {
	c, err := g.o.Identify(r)
	if errors.Is(err, ErrUnauthenticated) {
		p := refuse(http.StatusUnauthorized, codeTransport, "Unauthorized").because(DeniedUnauthenticated)
		p.challenge = "Bearer"
		if how, ok := errors.AsType[*challenge](err); ok {
			p.challenge = how.header
		}
		return c, p
	}
	return c, err
}

// evict ends a session that can never be served again.
func (g *Gateway) evict(r *http.Request, lease *engine.Lease, a *answer) {
	if !a.evict {
		return
	}
	g.o.Logger.Warn().Stringer("session", lease.Session().Ref()).Msg("session ended: " + errVersionChanged.Error())
	if err := lease.Close(r.Context(), journal.ReasonEvicted); err != nil && !errors.Is(err, engine.ErrUnknownSession) {
		g.o.Logger.Warn().Err(err).Stringer("session", lease.Session().Ref()).Msg("session not ended")
	}
}

// farewell prepares to tell the upstream that a session has ended; call what it returns when that is so.
func (w *Waker) farewell(ctx context.Context, r *http.Request, s *engine.Session) func() {
	rec, err := s.Binding(ctx)
	if err != nil || rec.Upstream == "" || !w.o.Upstream.Shared() {
		return func() {} // a runtime that ends with the session needs no farewell
	}
	st, _ := s.State()
	return func() {
		conn, err := w.o.Upstream.Connect(ctx, s)
		if err != nil {
			return
		}
		w.forsake(ctx, &binding{epoch: rec.Epoch, id: rec.Upstream, conn: conn}, st.Protocol, callerOf(r))
	}
}

func wrongVersion(v string) *problem {
	if len(v) > 32 {
		v = v[:32]
	}
	return refuse(http.StatusBadRequest, codeTransport, fmt.Sprintf("Bad Request: unsupported MCP-Protocol-Version %q", v))
}
