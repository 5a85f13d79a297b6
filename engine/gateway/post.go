package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// post serves JSON-RPC messages.
func (g *Gateway) post(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, observer: g.o.Observer}
	defer a.written()
	if p := acceptable(r); p != nil {
		p.write(a, nil)
		return
	}
	text, p := g.read(a, r)
	if p != nil {
		a.deny(p, nil)
		return
	}
	var body payload
	if err := body.parse(text); err != nil {
		(&problem{status: http.StatusBadRequest, rpcError: *err}).write(a, body.salvage())
		return
	}
	a.payload = &body
	a.verdicts.init(&body)
	g.dispatch(a, r)
	if a.cut {
		panic(http.ErrAbortHandler) // makes net/http break the connection
	}
}

// acceptable checks what MCP asks of the headers of a POST.
func acceptable(r *http.Request) *problem {
	if !accepts(r.Header, typeJSON) || !accepts(r.Header, typeSSE) {
		return refuse(http.StatusNotAcceptable, codeTransport,
			"Not Acceptable: Accept must list both application/json and text/event-stream")
	}
	if mediaType(r.Header) != typeJSON {
		return refuse(http.StatusUnsupportedMediaType, codeTransport, "Unsupported Media Type: Content-Type must be application/json")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return refuse(http.StatusUnsupportedMediaType, codeTransport, "Unsupported Media Type: the body must not be compressed")
	}
	return nil
}

// read reads the whole body: nothing is forwarded before, so that the request can be repeated. It is in no pooled buffer: a
// transport may still be sending it when its answer has been passed on.
func (g *Gateway) read(a *answer, r *http.Request) ([]byte, *problem) {
	tooLarge := func() *problem {
		return refuse(http.StatusRequestEntityTooLarge, codeTransport,
			"Payload Too Large: the body exceeds "+strconv.FormatInt(g.o.MaxBody, 10)+" bytes").because(DeniedSize)
	}
	if r.ContentLength > g.o.MaxBody {
		a.Header().Set("Connection", "close")
		return nil, tooLarge()
	}
	rc := http.NewResponseController(a.ResponseWriter)
	// A writer without deadlines is one in a test, or of somebody who has patience.
	_ = rc.SetReadDeadline(time.Now().Add(g.o.BodyTimeout))
	body, err := wholeBody(http.MaxBytesReader(a.ResponseWriter, r.Body, g.o.MaxBody), r.ContentLength)
	if err == nil { // else net/http still reads what is left, and must not wait for it
		_ = rc.SetReadDeadline(time.Time{})
	}
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.Header().Set("Connection", "close")
		return nil, refuse(http.StatusRequestTimeout, codeTransport, "Request Timeout: the body took too long").because(DeniedTime)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, codeTransport, "Bad Request: the body could not be read")
	}
	return body, nil
}

// wholeBody reads a body to its end, into no more memory than it needs where its size is known.
func wholeBody(body io.Reader, size int64) ([]byte, error) {
	if size <= 0 {
		return io.ReadAll(body)
	}
	text := make([]byte, size)
	_, err := io.ReadFull(body, text)
	return text, err
}

// dispatch sends a well-formed body where it belongs.
func (g *Gateway) dispatch(a *answer, r *http.Request) {
	ctx, body := r.Context(), a.payload
	if modern(r, body) {
		g.stateless(a, r)
		return
	}
	if init := body.only(methodInitialize); init != nil {
		g.initialize(a, r, init)
		return
	}
	for i := range body.msgs {
		if body.msgs[i].method == methodInitialize {
			a.fail(ctx, &problem{
				status:   http.StatusBadRequest,
				rpcError: *invalidRequest("Invalid Request: initialize must be a request of its own"),
			}, &g.o.Logger)
			return
		}
	}
	g.wherever(a, r, func() { g.deliver(a, r) })
}

// deliver has a well-formed body served by the session's runtime here.
func (g *Gateway) deliver(a *answer, r *http.Request) {
	ctx, body := r.Context(), a.payload
	lease, err := g.acquire(r, len(body.msgs))
	if err != nil {
		a.fail(ctx, err, &g.o.Logger)
		return
	}
	defer lease.Release()
	if body.batch && !batches(lease.Session()) {
		a.fail(ctx, &problem{
			status:   http.StatusBadRequest,
			rpcError: *invalidRequest("Invalid Request: the negotiated protocol version has no batches"),
		}, &g.o.Logger)
		return
	}
	defer journalCalls(lease, a)()
	rt, err := lease.Runtime(ctx)
	if err != nil {
		a.fail(ctx, err, &g.o.Logger)
		return
	}
	rt.ServeHTTP(a, r)
	g.evict(r, lease, a)
}

// batches reports whether the session's protocol version has JSON-RPC batches.
func batches(s *engine.Session) bool {
	st, ok := s.State()
	return ok && st.Protocol <= versionMar
}

// journalCalls journals that every message of the body has begun, and returns what journals how each ended.
func journalCalls(lease *engine.Lease, a *answer) func() {
	msgs := a.payload.msgs
	var room [1]*engine.Call
	calls := room[:0]
	for i := range msgs {
		method := msgs[i].method
		if msgs[i].kind == kindResponse {
			method = "response"
		}
		calls = append(calls, lease.Begin(clip(method), clip(msgs[i].tool)))
	}
	return func() {
		a.verdicts.settle(a.byStatus())
		for i, c := range calls {
			c.End(a.verdicts.outcome[i])
		}
	}
}

// initialize opens a session: at the upstream first, then in the journal, and then the client hears of it.
func (g *Gateway) initialize(a *answer, r *http.Request, init *message) {
	ctx := r.Context()
	if len(init.params) > maxInitialize {
		a.fail(ctx, &problem{status: http.StatusBadRequest, why: DeniedSize, rpcError: rpcError{
			Code: codeInvalidParams, Message: "The parameters of initialize exceed " + strconv.Itoa(maxInitialize) + " bytes",
		}}, &g.o.Logger)
		return
	}
	c, err := g.identify(r)
	if err == nil {
		err = g.mayInitialize(r, c)
	}
	if err != nil {
		a.fail(ctx, err, &g.o.Logger)
		return
	}
	counted, err := g.quotas.reserve(&c, true, 1)
	if err != nil {
		g.tellLimited(&c)
		a.fail(ctx, err, &g.o.Logger)
		return
	}
	var opened *initialized
	lease, err := g.o.Engine.Create(ctx, c, func(ctx context.Context, s *engine.Session) (engine.Opened, error) {
		var o engine.Opened
		var err error
		opened, o, err = g.o.Waker.create(ctx, r, s, init)
		return o, err
	})
	counted(err == nil)
	if err != nil {
		if opened != nil { // nobody will ever use it: servers bound how many sessions they keep
			g.o.Waker.forsake(ctx, opened.binding, opened.protocol, callerOf(r))
		}
		a.fail(ctx, err, &g.o.Logger)
		return
	}
	defer lease.Release()
	copyAnswer(a.Header(), opened.header)
	if mediaType(opened.header) == typeSSE {
		a.streams()
	}
	a.Header().Set(headerSession, lease.Session().ID().Reveal())
	a.Header().Set("Content-Length", strconv.Itoa(len(opened.body)))
	a.WriteHeader(http.StatusOK)
	_, _ = a.Write(opened.body) // a client that is gone has a session that expires
}

// mayInitialize checks the headers of an initialize request. A client that has lost its session may still send the old
// ID: that opens a new one. With the ID of a session that is alive it is a mistake.
func (g *Gateway) mayInitialize(r *http.Request, c engine.Caller) error {
	if v := r.Header.Get(headerVersion); v != "" && !knownVersion(v) && v < versionNext {
		return wrongVersion(v)
	}
	id, ok := sessionOf(r.Header)
	if id == "" || !ok {
		return nil
	}
	lease, err := g.o.Engine.Acquire(r.Context(), journal.SessionID(id), c)
	switch {
	case err == nil:
		defer lease.Release()
		if lease.Unproven() {
			return nil
		}
		return &problem{status: http.StatusBadRequest, rpcError: *invalidRequest("Invalid Request: the session is initialized already")}
	case errors.Is(err, engine.ErrUnknownSession):
		return nil
	}
	return err
}

// create opens an upstream session for a new session of ours; it waits for an upstream that is down.
func (w *Waker) create(ctx context.Context, r *http.Request, s *engine.Session, init *message) (*initialized, engine.Opened, error) {
	conn, err := w.o.Upstream.Connect(ctx, s)
	if err != nil {
		return nil, engine.Opened{}, err
	}
	wait := newBackoff(w.o.UpstreamWait)
	for {
		in, err := w.open(ctx, callerOf(r), conn, init.raw, init.id)
		if err == nil {
			b := &binding{epoch: 1, id: in.id, conn: conn}
			b.proven.Store(w.health.era.Load())
			if w.o.Upstream.Shared() {
				in.binding = b
			}
			params := json.RawMessage(bytes.Clone(init.params))
			return in, engine.Opened{Initialize: params, Protocol: in.protocol, Upstream: in.id, Runtime: w.runtime(s, b)}, nil
		}
		if !errors.Is(err, errDown) && !errors.Is(err, errBroken) || !wait.pause(ctx) {
			_ = conn.Close() // nothing to save
			return nil, engine.Opened{}, before(err)
		}
	}
}
