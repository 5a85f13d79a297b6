package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// relay passes an event stream that answers a POST on to the client, event by event. The head of the answer
// is held back until the first byte, so that a client whose gateway dies before that sees a broken
// connection and not a silent stream.
type relay struct {
	p       *proxy
	a       *answer
	b       *binding
	who     caller
	header  http.Header // the upstream's
	request []byte      // raw ID of the request that is answered; nil for batches
	cursor  []byte      // the upstream's last event ID
	named   bool        // the client has an event ID from which it can go on
	buf     []byte
}

// errClientGone says that the client cannot be written to any more.
var errClientGone = errors.New("the client is gone")

// run passes body on to its end. An error means that the client has been sent nothing yet, or that it is gone.
func (s *relay) run(ctx context.Context, body io.ReadCloser) error {
	for {
		err := s.pump(body)
		switch {
		case err == nil, errors.Is(err, errClientGone):
			return err
		case fenced(ctx) && s.a.begun():
			return s.settle()
		case ctx.Err() != nil:
			return err
		}
		if !errors.Is(err, io.EOF) {
			err = s.p.w.broken(ctx, err)
		}
		switch {
		case errors.Is(err, io.EOF) && (s.a.verdicts.open == 0 || s.named && len(s.cursor) > 0):
			s.begin() // an empty stream is an answer, too; and a named one goes on when its client comes back
			s.a.verdicts.settle(journal.OutcomeBroken)
			return nil
		case !s.a.begun():
			return errBroken
		}
		next, ok := s.resume(ctx)
		if !ok {
			return s.settle()
		}
		body = next
		defer next.Close()
	}
}

// pump passes events on until the last response, or the stream's end, which is io.EOF.
func (s *relay) pump(body io.ReadCloser) error {
	er := s.p.w.readers.get(body, s.p.w.o.MaxEvent)
	defer s.p.w.readers.put(er)
	calls := s.a.verdicts.open > 0
	for {
		ev, err := er.next()
		if err != nil {
			return err
		}
		s.p.w.health.heard()
		if err := s.pass(ev); err != nil {
			return err
		}
		if calls && s.a.verdicts.open == 0 {
			s.a.Flush()
			finish(body)
			return nil
		}
		if !er.whole() {
			s.a.Flush()
		}
	}
}

// finish reads the end of a stream whose last response has come, which the upstream should send at once: then
// its connection can be used again.
func finish(body io.ReadCloser) {
	t := time.AfterFunc(drainTime, func() { _ = body.Close() })
	defer t.Stop()
	_, _ = io.CopyN(io.Discard, body, 4<<10) // whatever it is, nobody waits for it
}

// pass writes one event for the client.
func (s *relay) pass(ev *event) error {
	var in inbound
	if ev.message() {
		in = s.p.responded(s.a, ev.data)
	}
	last := in.kind == kindResponse && s.a.verdicts.open == 0
	s.buf = s.buf[:0]
	if !s.a.begun() {
		s.begin()
		if s.primes() && !last && (ev.has&hasID == 0 || len(ev.data) > 0) {
			s.name()
			s.buf = appendEvent(s.buf, nil, s.id(), nil, nil)
		}
	}
	if ev.has&hasID != 0 {
		s.cursor = append(s.cursor[:0], ev.id...)
		s.name()
	}
	out := s.p.forClient(s.buf, ev, &in, s.b.epoch, s.id)
	if _, err := s.a.Write(out); err != nil {
		s.a.verdicts.settle(journal.OutcomeCanceled)
		return errClientGone
	}
	return nil
}

// primes reports whether the stream begins with an event ID of the gateway's own.
func (s *relay) primes() bool { return s.request != nil && s.p.primes(s.who) }

func (s *relay) name() { s.named = true }

// id returns the client's event ID for where the stream is now.
func (s *relay) id() []byte {
	return s.p.w.cursors.encode(s.p.s.Ref(), cursor{epoch: s.b.epoch, request: s.request, upstream: s.cursor})
}

func (s *relay) begin() {
	if s.a.begun() {
		return
	}
	copyAnswer(s.a.Header(), s.header)
	s.a.streams()
	s.a.WriteHeader(http.StatusOK)
}

// streams sets the headers of an event stream.
func (a *answer) streams() {
	h := a.Header()
	h.Set("Content-Type", typeSSE)
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

// forClient returns what the client gets of an event, behind dst: the gateway's event ID stands in place of the
// upstream's, and the epoch in the IDs of the server's own requests. Where nothing changes and dst is empty,
// it is the event itself, not a copy.
func (p *proxy) forClient(dst []byte, ev *event, in *inbound, epoch journal.Epoch, id func() []byte) []byte {
	data := outward(epoch, ev.data, in)
	if data == nil && ev.has&hasID == 0 {
		if len(dst) == 0 {
			return ev.raw
		}
		return append(dst, ev.raw...)
	}
	if data == nil {
		data = ev.data
	}
	var own []byte
	if ev.has&hasID != 0 {
		own = id()
	}
	return appendEvent(dst, ev.name, own, ev.retr, data)
}

// resume asks the upstream to go on where its stream broke off.
func (s *relay) resume(ctx context.Context) (io.ReadCloser, bool) {
	if len(s.cursor) == 0 {
		return nil, false
	}
	wait := newBackoff(s.p.w.o.UpstreamWait)
	for {
		body, err := s.p.replay(ctx, s.who, s.b, s.cursor)
		if err == nil {
			return body, true
		}
		if !errors.Is(err, errDown) && !errors.Is(err, errBroken) || !wait.pause(ctx) {
			return nil, false
		}
	}
}

// errNoReplay says that the upstream does not go on with a stream.
var errNoReplay = errors.New("the upstream does not resume the stream")

// replay asks the upstream for what came after an event.
func (p *proxy) replay(ctx context.Context, who caller, b *binding, after []byte) (io.ReadCloser, error) {
	v, err := p.admit(ctx, who, b)
	if err != nil || v != verdictAlive {
		return nil, errors.Join(errNoReplay, err)
	}
	resp, err := p.w.send(ctx, b.conn, outgoing{
		method: http.MethodGet, who: who, session: b.id, protocol: p.spoken(who), lastEventID: string(after),
	})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || mediaType(resp.Header) != typeSSE {
		drain(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusConflict { // it has not noticed yet that the former connection broke
			return nil, errDown
		}
		return nil, errNoReplay
	}
	return resp.Body, nil
}

// settle tells the client, on the stream that it has, that its open requests will not be answered.
func (s *relay) settle() error {
	s.buf = s.buf[:0]
	for i := range s.a.verdicts.msgs {
		m := &s.a.verdicts.msgs[i]
		if m.kind == kindRequest && s.a.verdicts.outcome[i] == 0 {
			s.buf = appendEvent(s.buf, []byte("message"), nil, nil, outcomeUnknown().response(m.id))
		}
	}
	s.a.verdicts.settle(journal.OutcomeBroken)
	if _, err := s.a.Write(s.buf); err != nil {
		return errClientGone
	}
	return nil
}

// settleOrResume serves a client that comes back for the rest of an answer: from the upstream, if it still is the one
// that gave the beginning and can go on; else the request is answered with an error, for good.
func (p *proxy) settleOrResume(ctx context.Context, a *answer, r *http.Request, at cursor) {
	var asked payload
	asked.one[0] = message{kind: kindRequest, id: at.request}
	asked.msgs = asked.one[:]
	a.payload = &asked
	a.verdicts.init(&asked)
	s := &relay{p: p, a: a, who: callerOf(r), request: at.request, cursor: slices.Clone(at.upstream), named: true}
	if b, err := p.current(ctx); err == nil && b != nil && b.epoch == at.epoch && len(at.upstream) > 0 {
		s.b = b
		if body, ok := s.resume(ctx); ok {
			defer body.Close()
			if err := s.run(ctx, body); err == nil || s.a.begun() || ctx.Err() != nil && !fenced(ctx) {
				return
			}
		}
	}
	s.begin()
	_ = s.settle() // the client may be gone again
}
