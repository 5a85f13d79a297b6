package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

// maxLosses is how often one request may find the session lost and have it initialized again.
const maxLosses = 3

// exchange is one POST on its way to the upstream.
type exchange struct {
	p      *proxy
	a      *answer
	who    caller
	losses int
	lost4  bool     // a 400 was taken for a lost session; no other one is
	era    uint64   // when the request was sent
	at     *binding // who may be executing it; nil = nobody has got it
}

// post carries a POST to the upstream and its answer back: it waits for an upstream that is down,
// initializes a lost session again, and repeats the request where nothing can have been executed twice.
func (p *proxy) post(a *answer, r *http.Request) {
	x := &exchange{p: p, a: a, who: callerOf(r)}
	ctx := r.Context()
	if p.w.local() {
		bounded, leave := p.w.works.enter(ctx)
		defer leave()
		ctx = bounded
	}
	wait := newBackoff(p.w.o.UpstreamWait)
	for {
		err := x.fenced(ctx, x.try(ctx))
		if err == nil {
			return
		}
		if (errors.Is(err, errMoved) || errors.Is(err, replicas.ErrCutOff)) && !errors.Is(err, errBroken) && !a.begun() {
			a.moved = true // the latter: perhaps, and nothing was sent
			return
		}
		if x.again(ctx, err, &wait) && wait.pause(ctx) {
			continue
		}
		a.fail(r.Context(), err, &p.w.o.Logger)
		return
	}
}

// again reports whether the exchange may be repeated after err.
func (x *exchange) again(ctx context.Context, err error, wait *backoff) bool {
	_, unserved := errors.AsType[*unserved](err)
	switch {
	case x.a.begun():
		return false
	case x.p.w.local() && (errors.Is(err, journal.ErrUnavailable) || errors.Is(err, journal.ErrOutcomeUnknown)):
		return true // a claim that is not stored yet: the stream's servers may be holding an election
	case known(err) && !unserved:
		return false
	case errors.Is(err, errDown):
		return true
	case errors.Is(err, errBroken), unserved:
		return x.repeatable(ctx, wait)
	}
	return false
}

// try carries the request once, and again for each time that the session turns out to be lost.
func (x *exchange) try(ctx context.Context) error {
	p := x.p
	x.at = nil // what failed before was not executed, or may be executed again
	for {
		b, err := x.bound(ctx)
		if err != nil {
			return before(err)
		}
		if b == nil {
			x.accept()
			return nil
		}
		body, dropped := x.a.payload.inward(b.epoch)
		if dropped > 0 {
			p.w.o.Logger.Info().Stringer("session", p.s.Ref()).Int("dropped", dropped).
				Msg("late answers to questions of an earlier upstream session dropped")
		}
		if body == nil {
			x.accept()
			return nil
		}
		x.era, x.at = p.w.health.era.Load(), b
		protocol := p.spoken(x.who)
		resp, err := p.w.send(ctx, b.conn, outgoing{
			method: http.MethodPost, who: x.who, body: body, session: b.id, protocol: protocol, patience: p.w.patience(x.a.payload),
		})
		if err != nil {
			return err
		}
		if err := p.w.outage(ctx, resp); err != nil {
			return err
		}
		gone, err := x.isLost(ctx, resp, b)
		if err != nil || !gone {
			if err == nil {
				err = x.deliver(ctx, b, resp)
			}
			return err
		}
		x.at = nil
		if err := x.recover(ctx, b); err != nil || x.a.begun() {
			return before(err)
		}
	}
}

// bound returns the binding to use. It is nil when that is lost and the messages mean nothing to another.
func (x *exchange) bound(ctx context.Context) (*binding, error) {
	if !x.a.payload.bygone() {
		return x.p.bound(ctx, x.who)
	}
	b, err := x.p.current(ctx)
	if b == nil || err != nil {
		return nil, err
	}
	if v, err := x.p.admit(ctx, x.who, b); err != nil || v != verdictAlive {
		return nil, err
	}
	return b, nil
}

// isLost reads what an upstream says in a 400 or 404, and closes the answer if that is that it has lost the session.
func (x *exchange) isLost(ctx context.Context, resp *http.Response, b *binding) (bool, error) {
	if resp.StatusCode != http.StatusNotFound && (resp.StatusCode != http.StatusBadRequest || x.lost4) {
		return false, nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil {
		_ = resp.Body.Close()
		return false, x.p.w.broken(ctx, err)
	}
	if !lost(resp.StatusCode, head, b.id) {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
		return false, nil
	}
	drain(resp.Body)
	_ = resp.Body.Close()
	x.lost4 = resp.StatusCode == http.StatusBadRequest
	return true, nil
}

// recover deals with a lost session: it is initialized again, unless the request means nothing to a new one.
func (x *exchange) recover(ctx context.Context, b *binding) error {
	p := x.p
	if p.shared() {
		p.w.health.lost(b.proven.Load())
	}
	if x.a.payload.bygone() {
		x.accept()
		return nil
	}
	if x.losses == maxLosses {
		return refuse(http.StatusBadGateway, codeUnavailable, "The MCP server does not keep its sessions")
	}
	_, err := p.rebind(ctx, x.who, b)
	if err == nil {
		x.losses++ // while it cannot be replaced, it is the same loss
	}
	return err
}

// bygone reports whether all messages of the body belong to the upstream session that they were meant for:
// answers to its questions, and notes on requests that went down with it.
func (p *payload) bygone() bool {
	for i := range p.msgs {
		m := &p.msgs[i]
		if m.kind != kindResponse && m.method != methodCancelled && m.method != methodProgress {
			return false
		}
	}
	return true
}

// accept answers 202 for messages that need no answer.
func (x *exchange) accept() {
	x.a.verdicts.settle(journal.OutcomeOK)
	x.a.WriteHeader(http.StatusAccepted)
}

// backoff waits ever longer, up to a deadline.
type backoff struct {
	until time.Time
	delay time.Duration
}

const (
	backoffFirst = 50 * time.Millisecond
	backoffMax   = time.Second
)

func newBackoff(patience time.Duration) backoff {
	return backoff{until: time.Now().Add(patience), delay: backoffFirst}
}

// pause waits and reports whether it is worth another try. The last one is at the deadline.
func (b *backoff) pause(ctx context.Context) bool {
	left := time.Until(b.until)
	if left <= 0 {
		return false
	}
	d := min(b.delay/2+jitter(b.delay), left)
	b.delay = min(2*b.delay, backoffMax)
	return sleep(ctx, d) == nil
}

// evicted reports whether err means that the session can never be served again.
func evicted(err error) bool { return errors.Is(err, errVersionChanged) }

// gone reports whether err says that the session has ended.
func gone(err error) bool { return errors.Is(err, engine.ErrUnknownSession) || evicted(err) }
