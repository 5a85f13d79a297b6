package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
)

// Of the protocol without sessions (2026-07-28) the gateway knows no more than what tells its requests from others:
// they go to an upstream that speaks it as they are, headers and _meta included, and nothing is journaled.
const (
	methodListen = "subscriptions/listen" // its answer is a stream without an end

	metaVersion = "io.modelcontextprotocol/protocolVersion"

	// discover asks an upstream for its era. A client's own request would not do: one that is not well-formed would
	// make an upstream look older than it is.
	discover = `{"jsonrpc":"2.0","id":"dormouse-discover","method":"server/discover","params":{"_meta":{` +
		`"` + metaVersion + `":"` + versionNext + `",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"dormouse","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`

	// eraHolds is how long its answer is taken for true: an upstream may be replaced by another one.
	eraHolds = 5 * time.Minute
)

// modern reports whether a request is one of the protocol without sessions: its version header says so, or its _meta,
// as the header may be what is wrong with it. An initialize opens a session, whatever its header is, unless its _meta
// makes it a request of the new protocol, which does not have that method.
func modern(r *http.Request, body *payload) bool {
	if len(r.Header[headerSession]) > 0 {
		return false
	}
	m := &body.msgs[0]
	if !body.batch && field(field(m.params, "_meta"), metaVersion) != nil {
		return true
	}
	return body.only(methodInitialize) == nil && r.Header.Get(headerVersion) >= versionNext
}

// stateless serves a request of the protocol without sessions.
func (g *Gateway) stateless(a *answer, r *http.Request) {
	ctx := r.Context()
	c, err := g.identify(r)
	if err == nil {
		err = g.countStateless(&c, a)
	}
	if err == nil {
		if a.payload.only(methodListen) != nil {
			var cancel context.CancelCauseFunc
			ctx, cancel = context.WithCancelCause(ctx)
			defer cancel(nil)
			defer context.AfterFunc(g.stopping, func() { cancel(engine.ErrNotReady) })() //nolint:contextcheck // the gateway's end ends it, too
		}
		err = g.o.Waker.stateless(ctx, a, r)
	}
	if err != nil {
		a.fail(r.Context(), err, &g.o.Logger)
	}
}

// stateless passes a request on to an upstream that speaks the protocol without sessions. It waits for one that is
// down, and repeats what may be repeated.
func (w *Waker) stateless(ctx context.Context, a *answer, r *http.Request) error {
	if !w.o.Upstream.Shared() {
		return unsupported(r, a.payload)
	}
	conn, err := w.o.Upstream.Connect(ctx, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	wait := newBackoff(w.o.UpstreamWait)
	for {
		err := w.passStateless(ctx, a, r, conn)
		again := errors.Is(err, errDown) || errors.Is(err, errBroken) && a.payload.repeatable(w.tools.repeatable)
		if !again || a.begun() || !wait.pause(ctx) {
			return err
		}
	}
}

func (w *Waker) passStateless(ctx context.Context, a *answer, r *http.Request, conn Conn) error {
	spoken, err := w.speaks(ctx, conn, r)
	if err != nil {
		return err
	}
	if !spoken {
		return unsupported(r, a.payload)
	}
	resp, err := w.send(ctx, conn, outgoing{
		method: http.MethodPost, who: callerOf(r), body: a.payload.body, protocol: r.Header.Get(headerVersion),
		patience: w.patience(a.payload),
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= http.StatusMultipleChoices && resp.StatusCode < http.StatusBadRequest:
		return refuse(http.StatusBadGateway, codeInternal, "The MCP server redirects its requests")
	case mediaType(resp.Header) == typeSSE && resp.Header.Get("Content-Encoding") == "":
		return w.passEvents(ctx, a, resp)
	}
	return w.passWhole(ctx, a, resp)
}

// passWhole passes an answer on that is no stream, once it is read whole: until then it can still be repeated.
func (w *Waker) passWhole(ctx context.Context, a *answer, resp *http.Response) error {
	buf := w.buffers.get()
	defer w.buffers.put(buf)
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, wholeAnswer))
	if err != nil {
		return w.broken(ctx, err)
	}
	copyAnswer(a.Header(), resp.Header)
	if resp.ContentLength >= 0 {
		a.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.learnTools(a.payload, buf.Bytes())
	a.WriteHeader(resp.StatusCode)
	if _, err := a.Write(buf.Bytes()); err != nil || n < wholeAnswer {
		return nil // the client is gone, or has it all
	}
	if _, err := io.Copy(a, resp.Body); err != nil {
		a.cut = true
		return w.broken(ctx, err)
	}
	return nil
}

// passEvents passes a stream on event by event, and keeps it alive. One that breaks or ends before the response is ended
// with an error for the request: this protocol has no way to come back for the rest.
func (w *Waker) passEvents(ctx context.Context, a *answer, resp *http.Response) error {
	er := w.readers.get(resp.Body, w.o.MaxEvent)
	defer w.readers.put(er)
	id := a.payload.id()
	out := &kept{a: a, every: w.o.Keepalive}
	defer out.end()
	begin := func() {
		if !a.begun() {
			copyAnswer(a.Header(), resp.Header)
			a.streams()
			a.WriteHeader(resp.StatusCode)
			out.start()
		}
	}
	listen := a.payload.only(methodListen) != nil
	for open := id != nil; ; {
		ev, err := er.next()
		switch {
		case errors.Is(err, io.EOF) && (!open || listen):
			begin()
			return nil
		case errors.Is(err, io.EOF) && !a.begun():
			return errBroken
		case err != nil && (!a.begun() || ctx.Err() != nil):
			return w.broken(ctx, err)
		case err != nil && open:
			if !errors.Is(err, io.EOF) {
				_ = w.broken(ctx, err) // is noted; the client is told on its stream
			}
			_ = out.write(appendEvent(nil, []byte("message"), nil, nil, outcomeUnknown().response(id)), true)
			return nil
		case err != nil:
			return nil
		}
		w.health.heard()
		begin()
		if ev.message() && open {
			open = peek(ev.data).kind != kindResponse // there is but one
			w.learnTools(a.payload, ev.data)
		}
		if err := out.write(ev.raw, !er.whole()); err != nil {
			return nil // the client is gone
		}
	}
}

// learnTools takes the annotations from a response to tools/list.
func (w *Waker) learnTools(asked *payload, data []byte) {
	if asked.only(methodToolsList) == nil {
		return
	}
	if in := peek(data); in.kind == kindResponse && in.result != nil {
		w.tools.learn(in.result)
	}
}

// speaks reports whether the upstream speaks the protocol without sessions. It asks once in a while, with the caller's
// credentials; an upstream that does not let the caller in is to tell the caller itself.
func (w *Waker) speaks(ctx context.Context, conn Conn, r *http.Request) (bool, error) {
	_, done, err := w.health.ask(ctx, featureStateless)
	defer done()
	if offered, known := w.health.offers(featureStateless); err != nil || known {
		return offered, err
	}
	resp, err := w.send(ctx, conn, outgoing{
		method: http.MethodPost, who: caller{header: discovering(r.Header), remote: r.RemoteAddr}, body: []byte(discover), protocol: versionNext,
	})
	if err != nil {
		if errors.Is(err, errBroken) {
			err = errors.Join(errDown, err) // the client's request was not sent
		}
		return false, err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	era, told := w.eraOf(resp)
	if told {
		w.health.note(featureStateless, era)
	}
	return era || !told, nil
}

// discovering returns the headers of discover in place of those of a request.
func discovering(of http.Header) http.Header {
	header := of.Clone()
	for name := range header {
		if name == "Mcp-Name" || strings.HasPrefix(name, "Mcp-Param-") {
			delete(header, name)
		}
	}
	header["Mcp-Method"] = []string{methodDiscover}
	return header
}

// eraOf reads the answer to discover. What identifies an upstream of the new protocol is a result or one of its own
// errors (2026-07-28, streamable HTTP, backward compatibility).
func (w *Waker) eraOf(resp *http.Response) (modern, told bool) {
	status := resp.StatusCode
	if status != http.StatusOK && (status < http.StatusBadRequest || status >= http.StatusInternalServerError ||
		slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests}, status)) {
		return false, false
	}
	var answer []byte
	var err error
	if mediaType(resp.Header) == typeSSE {
		_, answer, err = w.readOpening(resp.Body, []byte(`"dormouse-discover"`))
	} else {
		answer, err = io.ReadAll(io.LimitReader(resp.Body, int64(w.o.MaxEvent)))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, false
	}
	if !json.Valid(answer) {
		return false, true
	}
	if field(peek(answer).result, "supportedVersions") != nil {
		return true, true
	}
	code, err := strconv.Atoi(string(field(field(answer, "error"), "code")))
	return err == nil && (code == codeHeaderMismatch || code == codeMissingCapability || code == codeUnsupportedVersion), true
}

// unsupported is the protocol's own error for a server that does not speak it, or not that version. Clients that know
// both eras go on with initialize.
func unsupported(r *http.Request, body *payload) error {
	requested := r.Header.Get(headerVersion)
	if requested == "" {
		requested = text(field(body.msgs[0].params, "_meta"), metaVersion)
	}
	data, err := json.Marshal(map[string]any{"supported": sessionVersions(), "requested": clip(requested)})
	return errors.Join(err, &problem{status: http.StatusBadRequest, rpcError: rpcError{
		Code: codeUnsupportedVersion, Message: "Unsupported protocol version", Data: data,
	}})
}
