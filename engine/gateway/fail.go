package gateway

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

const retrySoon = 2 // seconds

// problemOf returns the HTTP answer for an error.
func problemOf(err error) *problem {
	var p *problem
	soon := func(text string) *problem {
		p := refuse(http.StatusServiceUnavailable, codeUnavailable, text)
		p.retryAfter = retrySoon
		return p
	}
	switch {
	case errors.As(err, &p):
		return p
	case gone(err):
		return refuse(http.StatusNotFound, codeSessionNotFound, "Session not found").because(DeniedSession)
	case errors.Is(err, engine.ErrSessionLimit):
		p = refuse(http.StatusTooManyRequests, codeSessionLimit, "Session limit reached").because(DeniedSessions)
		p.retryAfter = 30
		return p
	case errors.Is(err, errDown):
		return soon("The MCP server cannot be reached; the request was not executed")
	case errors.Is(err, errBroken):
		return soon("The connection to the MCP server broke")
	case errors.Is(err, replicas.ErrCutOff):
		return soon("This replica of the gateway is cut off from the session journal")
	case errors.Is(err, errNoRoute), errors.Is(err, errMoved):
		return soon("The session is being taken over by another replica")
	case errors.Is(err, engine.ErrNotReady), errors.Is(err, errHibernated):
		return soon("The gateway is starting or shutting down")
	case errors.Is(err, journal.ErrUnavailable), errors.Is(err, journal.ErrOutcomeUnknown), errors.Is(err, journal.ErrClosed):
		return soon("The session journal is out of reach")
	case errors.Is(err, ErrAuthUnavailable):
		return soon("Credentials cannot be checked now")
	case errors.Is(err, engine.ErrClaimLost):
		return soon("The session is being taken over by another replica")
	case errors.Is(err, ErrBadContext):
		return refuse(http.StatusBadRequest, codeInvalidParams, err.Error()).because(DeniedContext)
	case errors.Is(err, context.DeadlineExceeded):
		return soon("The gateway ran out of time")
	}
	return refuse(http.StatusInternalServerError, codeInternal, "Internal error")
}

// outcomeFor is the outcome of a request that ended in err.
func outcomeFor(ctx context.Context, err error) journal.Outcome {
	switch {
	case ctx.Err() != nil:
		return journal.OutcomeCanceled
	case errors.Is(err, errBroken):
		return journal.OutcomeBroken
	case errors.Is(err, errDown), errors.Is(err, journal.ErrUnavailable), errors.Is(err, engine.ErrNotReady):
		return journal.OutcomeUnavailable
	}
	return journal.OutcomeRefused
}

// fail answers a request that ended in err, unless its client is gone or an answer has begun.
func (a *answer) fail(ctx context.Context, err error, log *zerolog.Logger) {
	a.verdicts.settle(outcomeFor(ctx, err))
	a.evict = a.evict || evicted(err)
	if a.begun() || ctx.Err() != nil && !errors.Is(err, errHibernated) {
		return
	}
	var ref *refusal
	switch {
	case errors.As(err, &ref):
		ref.write(a)
	case errors.Is(err, errBroken) && a.payload != nil && a.payload.has(kindRequest):
		a.definite(outcomeUnknown())
	default:
		p := problemOf(err)
		if p.status == http.StatusInternalServerError {
			log.Error().Err(err).Msg("request failed")
		}
		id := a.payload.id()
		if p.status == http.StatusNotFound {
			id = nil // the session's end is the transport's matter; clients tell by it
		}
		a.deny(p, id)
	}
}

// deny answers with p and has it counted.
func (a *answer) deny(p *problem, id []byte) {
	if p.why != "" && a.observer != nil {
		a.observer.RequestDenied(p.why)
	}
	p.write(a, id)
}

// outcomeUnknown is the error for a request of which nobody knows whether it was executed.
func outcomeUnknown() *rpcError {
	return &rpcError{
		Code:    codeOutcomeUnknown,
		Message: "The connection to the MCP server broke while it worked on this request: it may or may not have been executed",
	}
}

// definite answers every request of the body, of which there is one at least, with e: there will be no other answer.
func (a *answer) definite(e *rpcError) {
	var all [][]byte
	for i := range a.payload.msgs {
		if m := &a.payload.msgs[i]; m.kind == kindRequest {
			all = append(all, e.response(m.id))
		}
	}
	body := all[0]
	if a.payload.batch {
		body = append(append([]byte{'['}, bytes.Join(all, []byte{','})...), ']')
	}
	h := a.Header()
	h.Set("Content-Type", typeJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	a.WriteHeader(http.StatusOK)
	_, _ = a.Write(body) // the client may be gone
}
