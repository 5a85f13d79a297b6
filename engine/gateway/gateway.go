package gateway

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Options configures a Gateway. Engine and Waker must be set.
type Options struct {
	Engine *engine.Engine
	Waker  *Waker // the one that Engine has

	// Identify tells who makes a request; Identifier.Identify fits. Its errors are answered 401
	// (ErrUnauthenticated), 400 (ErrBadContext) or 500. nil = callers are not told apart.
	Identify func(*http.Request) (engine.Caller, error)

	MaxBody int64 // bytes of a request body; 0 = 4 MiB

	// AllowedOrigins are the origins of web pages that may use the gateway, as "https://app.example.com"; "*" =
	// all. Those of this machine always may; requests without an Origin do not come from pages.
	AllowedOrigins []string

	// AllowedHosts are names, besides those of the loopback interface, by which a gateway that listens there
	// may be called.
	AllowedHosts []string

	Logger zerolog.Logger
}

const defaultMaxBody = 4 << 20

func (o *Options) complete() error {
	if o.Engine == nil || o.Waker == nil {
		return errors.New("gateway options: Engine and Waker must be set")
	}
	if o.MaxBody < 0 {
		return fmt.Errorf("gateway options: MaxBody of %d bytes", o.MaxBody)
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Identify == nil {
		o.Identify = func(*http.Request) (engine.Caller, error) { return engine.Caller{}, nil }
	}
	return nil
}

// Gateway is the client-facing MCP endpoint. Safe for concurrent use.
type Gateway struct {
	o     Options
	guard guard
}

// New returns the gateway of an engine.
func New(o Options) (*Gateway, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &Gateway{o: o, guard: newGuard(o.AllowedOrigins, o.AllowedHosts)}, nil
}

// allowed are the methods of the endpoint.
const allowed = "GET, POST, DELETE"

// ServeHTTP answers one HTTP request of MCP's streamable HTTP transport.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.guard.admit(w, r) {
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
	a := &answer{ResponseWriter: w}
	lease, err := g.acquire(r)
	if err != nil {
		a.fail(r.Context(), err, &g.o.Logger)
		return
	}
	defer lease.Release()
	call := lease.Begin(http.MethodGet, "")
	defer func() { call.End(a.byStatus()) }()
	rt, err := lease.Runtime(r.Context())
	if err != nil {
		a.fail(r.Context(), err, &g.o.Logger)
		return
	}
	rt.ServeHTTP(a, r)
	g.evict(r, lease, a)
}

// delete ends the session at its client's wish.
func (g *Gateway) delete(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w}
	lease, err := g.acquire(r)
	if err != nil {
		a.fail(r.Context(), err, &g.o.Logger)
		return
	}
	defer lease.Release()
	call := lease.Begin(http.MethodDelete, "")
	farewell := g.o.Waker.farewell(r, lease.Session())
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

// acquire finds the session of a request that must have one.
func (g *Gateway) acquire(r *http.Request) (*engine.Lease, error) {
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
		p := refuse(http.StatusUnauthorized, codeTransport, "Unauthorized")
		p.challenge = true
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
func (w *Waker) farewell(r *http.Request, s *engine.Session) func() {
	rec, err := s.Binding(r.Context())
	if err != nil || rec.Upstream == "" || !w.o.Upstream.Shared() {
		return func() {} // a runtime that ends with the session needs no farewell
	}
	st, _ := s.State()
	return func() {
		conn, err := w.o.Upstream.Connect(r.Context(), s.Context)
		if err != nil {
			return
		}
		w.forsake(&binding{epoch: rec.Epoch, id: rec.Upstream, conn: conn}, st.Protocol, callerOf(r))
	}
}

func wrongVersion(v string) *problem {
	if len(v) > 32 {
		v = v[:32]
	}
	return refuse(http.StatusBadRequest, codeTransport, fmt.Sprintf("Bad Request: unsupported MCP-Protocol-Version %q", v))
}
