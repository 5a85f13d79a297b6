package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Why an upstream gave no answer.
var (
	// errDown: it could not be reached, and has executed nothing.
	errDown = errors.New("the upstream cannot be reached")

	// errBroken: the connection broke after the request was sent, so it may have been executed.
	errBroken = errors.New("the connection to the upstream broke")
)

// outgoing is a request to an upstream.
type outgoing struct {
	method      string
	who         caller
	body        []byte
	session     string // the upstream's session ID
	protocol    string // its version; older ones than 2025-06-18 have a header only if the client sent it
	lastEventID string

	// patience is how long a shared upstream may be silent while the answer does not begin; at least WakerOptions.QuickWait.
	// Zero is that, too; then an upstream without a session is not asked for a sign of life, but left to open one.
	patience time.Duration
}

// send sends a request and returns the answer's head. The error is errDown or errBroken, or ctx's cause.
func (w *Waker) send(ctx context.Context, conn Conn, o outgoing) (*http.Response, error) {
	return w.roundTrip(ctx, conn, &o)
}

// request returns the request as it goes out.
func (o *outgoing) request(ctx context.Context) *http.Request {
	header := outbound(o.who.header)
	r := (&http.Request{
		Method: o.method, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "localhost",
		RemoteAddr: o.who.remote,
	}).WithContext(ctx)
	if o.session != "" {
		header[headerSession] = []string{o.session}
	}
	if o.protocol >= versionJune || o.protocol != "" && o.protocol == o.who.header.Get(headerVersion) {
		header[headerVersion] = []string{o.protocol}
	}
	switch o.method {
	case http.MethodPost:
		header["Accept"] = []string{typeJSON + ", " + typeSSE}
		header["Content-Type"] = []string{typeJSON}
		body := o.body
		r.ContentLength = int64(len(body))
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	case http.MethodGet:
		header["Accept"] = []string{typeSSE}
		if o.lastEventID != "" {
			header[headerLastEventID] = []string{o.lastEventID}
		}
	}
	return r
}

// roundTrip sends o once the meter lets it. A GET is a stream, for which tributary.open has asked.
func (w *Waker) roundTrip(ctx context.Context, conn Conn, o *outgoing) (*http.Response, error) {
	leave := func() {}
	if o.method != http.MethodGet {
		var err error
		if leave, err = w.meter.enter(ctx); err != nil {
			return nil, err
		}
	}
	resp, err := w.watched(ctx, conn, o)
	if err != nil {
		leave()
		if ctx.Err() == nil {
			w.tellFailed(err, errors.Is(err, ErrNotSent) || errors.Is(err, errMute))
		}
		return nil, w.broken(ctx, err)
	}
	w.health.heard()
	w.tellAnswered(resp.StatusCode)
	w.meter.hear(resp.Header)
	if !w.meter.free.Load() {
		resp.Body = metered{resp.Body, leave}
	} else {
		leave()
	}
	return resp, nil
}

// broken says what a failed connection means for a request.
func (w *Waker) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, errEventTooLarge) {
		return refuse(http.StatusBadGateway, codeInternal, "the upstream's answer is larger than the gateway carries")
	}
	w.health.failed()
	if errors.Is(err, ErrNotSent) {
		return fmt.Errorf("%w: %w", errDown, err)
	}
	return fmt.Errorf("%w: %w", errBroken, err)
}

// lost reports whether an answer says that the upstream does not know the session of that ID. Some say
// it with 404, as they should, and some with 400: "No valid session ID provided" (server-everything, and whoever
// copied the SDK's example), "Server not initialized" (the TypeScript SDK), "Session not found or expired"
// and "Invalid session ID format" (n8n-mcp). Any other 400 means what it says.
func lost(status int, body []byte, id string) bool {
	switch status {
	case http.StatusNotFound:
		return id != ""
	case http.StatusBadRequest:
		said := strings.ToLower(complaint(body))
		return strings.Contains(said, "server not initialized") ||
			strings.Contains(said, "session") && slices.ContainsFunc(sessionTroubles(), func(t string) bool {
				return strings.Contains(said, t)
			})
	}
	return false
}

func sessionTroubles() []string {
	return []string{"no valid", "invalid", "unknown", "missing", "expired", "terminated", "not found", "not exist", "no such", "closed"}
}

// complaint returns the message of a JSON-RPC error with a server's own code, or a short plain text.
func complaint(body []byte) string {
	if !json.Valid(body) {
		if len(body) > 200 {
			return ""
		}
		return string(body)
	}
	fault := field(body, "error")
	if s, ok := unquote(fault); ok {
		return s
	}
	code, err := strconv.Atoi(string(field(fault, "code")))
	if err != nil || code != codeInvalidRequest && (code < -32099 || code > -32000) {
		return ""
	}
	return text(fault, "message")
}
