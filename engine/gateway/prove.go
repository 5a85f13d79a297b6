package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/dormouse-mcp/dormouse/engine"
)

// prove asks the upstream about a caller who has come with another credential than the session's. Whatever it says, it
// counts neither for nor against the upstream's health, and no session is opened again for it: a credential that nobody
// has checked must not move anything.
func (g *Gateway) prove(r *http.Request, lease *engine.Lease, c engine.Caller) error {
	if !lease.Unproven() {
		return nil
	}
	ctx := r.Context()
	err := g.o.Waker.accepts(ctx, callerOf(r), lease.Session())
	if err == nil {
		return lease.Prove(ctx, c)
	}
	g.o.Logger.Warn().Bool("security", true).Str("event", "credential_refused").Stringer("session", lease.Session().Ref()).
		Err(err).Msg("[SECURITY] credential_refused")
	return err
}

// accepts asks the upstream, with the caller's own headers, for a sign of life in the session as it is bound. The error is a
// *refusal when the upstream refuses the caller, engine.ErrUnknownSession when it does not know the session or has none.
func (w *Waker) accepts(ctx context.Context, who caller, s *engine.Session) error {
	rec, err := s.Binding(ctx)
	if err != nil {
		return err
	}
	st, ok := s.State()
	switch {
	case !ok, !w.o.Upstream.Shared(), w.health.forgotten(st.BoundAt.Seq), rec.Upstream == "" && rec.Epoch <= 1:
		return engine.ErrUnknownSession
	case rec.Upstream == "":
		return engine.ErrClaimLost // it is being opened again just now
	}
	conn, err := w.o.Upstream.Connect(ctx, s)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	id := []byte(`"dormouse-prove"`)
	resp, err := w.send(ctx, conn, outgoing{
		method: http.MethodPost, who: who, body: request(id, methodPing, nil), session: rec.Upstream, protocol: st.Protocol,
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	switch {
	case resp.StatusCode == http.StatusOK:
		return w.alive(resp, id)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden,
		resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= http.StatusInternalServerError:
		return refusalOf(resp)
	}
	return engine.ErrUnknownSession
}

// alive reads the answer to a ping, which must be a result.
func (w *Waker) alive(resp *http.Response, id []byte) (err error) {
	var answer []byte
	if mediaType(resp.Header) == typeSSE {
		_, answer, err = w.readOpening(resp.Body, id)
	} else {
		answer, err = io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	}
	if err != nil {
		return errors.Join(errBroken, err)
	}
	if in := peek(answer); in.kind != kindResponse || in.result == nil || !bytes.Equal(in.id, id) {
		return engine.ErrUnknownSession
	}
	return nil
}
