package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// listeners keeps the GET stream of a session: there is one, and the newest wins.
type listeners struct {
	mu    sync.Mutex
	now   *listener
	ended bool // no more of them
	all   sync.WaitGroup
}

// listener is one client's GET.
type listener struct {
	events chan []byte // from the gateway itself; what does not fit is dropped
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it writes no more
}

var errReplaced = errors.New("a newer GET stream has taken over")

// join makes l the session's GET stream, once the one before has ended. Whoever has joined must leave, after an error
// too; false: the runtime is being closed, and l has not joined.
func (ls *listeners) join(ctx context.Context, l *listener) (bool, error) {
	ls.mu.Lock()
	if ls.ended {
		ls.mu.Unlock()
		return false, errHibernated
	}
	before := ls.now
	ls.now = l
	ls.all.Add(1)
	ls.mu.Unlock()
	return true, before.giveWay(ctx)
}

// giveWay ends a stream, if there is one, and waits until it writes no more.
func (l *listener) giveWay(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.cancel(errReplaced)
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (ls *listeners) leave(l *listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.now == l {
		ls.now = nil
	}
	close(l.done)
	ls.all.Done()
}

// send gives the listener an event, if there is a listener.
func (ls *listeners) send(event []byte) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.now == nil {
		return
	}
	select {
	case ls.now.events <- event:
	default:
	}
}

// cut ends the listener, if there is one.
func (ls *listeners) cut(why error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.now != nil {
		ls.now.cancel(why)
	}
}

// end lets nobody join any more and waits for those who have. A WaitGroup must not grow from zero while it is waited
// for: hence the flag.
func (ls *listeners) end() {
	ls.mu.Lock()
	ls.ended = true
	ls.mu.Unlock()
	ls.all.Wait()
}

// get serves a GET: the session's own stream, or the rest of an answer that broke off.
func (p *proxy) get(a *answer, r *http.Request) {
	// An event ID that is none of this session's asks for nothing that could be replayed: the stream begins anew.
	// Refusing it would end a client's stream for good.
	at, _ := p.w.cursors.decode(p.s.Ref(), r.Header.Get(headerLastEventID))
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(errHibernated) })() //nolint:contextcheck // the runtime's end ends it, too
	if len(at.request) > 0 {
		ctx, leave := p.w.works.enter(ctx)
		defer leave()
		p.settleOrResume(ctx, a, r, at)
		return
	}
	if p.w.local() { // a client must not listen where its session is not
		switch _, err := p.bound(ctx, callerOf(r)); {
		case errors.Is(err, errMoved):
			a.moved = true
			return
		case gone(err):
			a.fail(ctx, err, &p.w.o.Logger)
			return
		case err != nil:
			p.w.later(a, r, p.s.Ref())
			return
		}
	}
	p.listen(ctx, cancel, a, r, at)
}

// listen is the session's GET stream: keepalives, and what the upstream's own brings.
func (p *proxy) listen(ctx context.Context, cancel context.CancelCauseFunc, a *answer, r *http.Request, at cursor) {
	l := &listener{events: make(chan []byte, 16), cancel: cancel, done: make(chan struct{})}
	joined, err := p.stream.join(ctx, l)
	if !joined {
		a.fail(ctx, err, &p.w.o.Logger)
		return
	}
	defer p.stream.leave(l)
	if err != nil {
		return
	}
	a.streams()
	a.WriteHeader(http.StatusOK)
	at.opening = rand.Uint64() | 1 //nolint:gosec // tells connections apart; nothing secret
	if !a.say(p.greeting(callerOf(r), at)) {
		return
	}
	carried := make(chan []byte)
	var pump sync.WaitGroup
	pump.Go(func() { p.carry(ctx, callerOf(r), carried, at) })
	defer pump.Wait()
	defer cancel(nil)
	alive := time.NewTicker(p.w.o.Keepalive)
	defer alive.Stop()
	for ok := true; ok; {
		select {
		case ev := <-carried:
			ok = a.say(ev)
		case ev := <-l.events:
			ok = a.say(ev)
		case <-alive.C:
			ok = a.say([]byte(": keepalive\n\n"))
		case <-ctx.Done():
			return
		}
	}
}

// greeting is what a GET stream begins with. Clients that understand it get an event ID that no connection had before:
// the Go SDK's gives its session up when its stream breaks six times without a new one, however long that takes.
func (p *proxy) greeting(who caller, at cursor) []byte {
	hello := []byte(": ok\n\n")
	if id := p.w.cursors.encode(p.s.Ref(), at); id != nil && p.primes(who) {
		hello = appendEvent(hello, nil, id, nil, nil)
	}
	return hello
}

// primes reports whether the client's version understands an event that holds nothing but an ID.
func (p *proxy) primes(who caller) bool { return p.spoken(who) >= versionNov }

// say writes and flushes; false: the client is gone.
func (a *answer) say(p []byte) bool {
	if _, err := a.Write(p); err != nil {
		return false
	}
	a.Flush()
	return true
}

const (
	reopenFirst = time.Second
	reopenMax   = 30 * time.Second
	patientGET  = 2 * time.Second // an upstream that refuses GET does so at once
)

// carry keeps the upstream's GET stream open and passes its events on, until ctx ends or the upstream turns
// out to offer none.
func (p *proxy) carry(ctx context.Context, who caller, events chan<- []byte, at cursor) {
	t := &tributary{p: p, who: who, events: events, epoch: at.epoch, opening: at.opening, cursor: slices.Clone(at.upstream)}
	delay := reopenFirst
	for ctx.Err() == nil {
		began := time.Now()
		rebound := p.changed()
		if !t.open(ctx) {
			return
		}
		if time.Since(began) > reopenMax {
			delay = reopenFirst
		}
		pause, cancel := context.WithTimeout(ctx, delay/2+jitter(delay))
		select {
		case <-rebound:
		case <-pause.Done():
		}
		cancel()
		delay = min(2*delay, reopenMax)
	}
}

// tributary is the upstream's GET stream.
type tributary struct {
	p      *proxy
	who    caller
	events chan<- []byte
	epoch  journal.Epoch
	cursor []byte

	opening uint64 // see cursor
}

// open opens the stream and passes it on to its end; false: there is none to be had.
func (t *tributary) open(ctx context.Context) bool {
	offered, done, err := t.p.w.health.ask(ctx, featureGET)
	defer done()
	if err != nil || !offered {
		return false
	}
	b, err := t.p.bound(ctx, t.who)
	if err != nil {
		return !gone(err)
	}
	if b.epoch != t.epoch {
		t.epoch, t.cursor = b.epoch, nil
	}
	leave, ok := t.p.w.meter.stream()
	if !ok {
		return true // later, perhaps
	}
	defer leave()
	assume := time.AfterFunc(patientGET, func() { t.p.w.health.note(featureGET, true); done() })
	resp, err := t.p.w.send(ctx, b.conn, outgoing{
		method: http.MethodGet, who: t.who, session: b.id, protocol: t.p.spoken(t.who), lastEventID: string(t.cursor),
	})
	assume.Stop()
	if err != nil {
		return true
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && mediaType(resp.Header) == typeSSE {
		t.p.w.health.note(featureGET, true)
		done()
		t.pass(ctx, b, resp.Body)
		return true
	}
	drain(resp.Body)
	return t.refused(ctx, b, resp)
}

// refused finds out what the upstream means; false: it has no GET streams, or none for this client.
func (t *tributary) refused(ctx context.Context, b *binding, resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return false
	case http.StatusConflict, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case http.StatusBadRequest, http.StatusNotFound: // no stream, or no session
		if b.id != "" && t.p.ping(ctx, t.who, b) == verdictLost {
			if t.p.shared() {
				t.p.w.health.lost(b.proven.Load())
			}
			_, err := t.p.rebind(ctx, t.who, b)
			return err == nil || !gone(err)
		}
	}
	if ctx.Err() != nil {
		return false
	}
	t.p.w.health.note(featureGET, false)
	t.p.w.o.Logger.Info().Int("status", resp.StatusCode).Msg("the upstream offers no GET stream")
	return false
}

// pass carries events to the listener.
func (t *tributary) pass(ctx context.Context, b *binding, body io.Reader) {
	er := t.p.w.readers.get(body, t.p.w.o.MaxEvent)
	defer t.p.w.readers.put(er)
	id := func() []byte {
		return t.p.w.cursors.encode(t.p.s.Ref(), cursor{epoch: b.epoch, upstream: t.cursor, opening: t.opening})
	}
	for {
		ev, err := er.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = t.p.w.broken(ctx, err) // noted; the stream is opened again
			}
			return
		}
		t.p.w.health.heard()
		if ev.has == 0 {
			continue // the upstream's keepalives; the client gets its own
		}
		var in inbound
		if ev.message() {
			in = peek(ev.data)
		}
		if ev.has&hasID != 0 {
			t.cursor = append(t.cursor[:0], ev.id...)
		}
		select {
		case t.events <- bytes.Clone(t.p.forClient(nil, ev, &in, b.epoch, id)):
		case <-ctx.Done():
			return
		}
	}
}
