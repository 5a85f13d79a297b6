package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// errMute says that an upstream that takes connections does not answer.
var errMute = errors.New("it takes connections and does not answer")

// vigilPause is how long an upstream may be silent before it is asked for a sign of life.
const vigilPause = 10 * time.Second

// vigil looks after a request to a shared upstream whose answer has not begun. A tool may take its time; so nothing is
// decided by the time that passes, but by the upstream's silence: while it answers anything at all, the request waits. One
// that says nothing, not even to a ping, is told as an outage, and when its patience is over the request is given up.
type vigil struct {
	w        *Waker
	ctx      context.Context //nolint:containedctx // of the request, with which it ends
	cancel   context.CancelCauseFunc
	conn     Conn
	o        outgoing
	patience time.Duration
	sent     time.Time

	mu    sync.Mutex
	timer *time.Timer
	over  bool // the answer has begun, or there is none
}

// watched sends o and watches over it until its answer begins.
func (w *Waker) watched(ctx context.Context, conn Conn, o *outgoing) (*http.Response, error) {
	if o.method != http.MethodPost || !w.o.Upstream.Shared() {
		return conn.RoundTrip(o.request(ctx))
	}
	inner, cancel := context.WithCancelCause(ctx)
	v := &vigil{w: w, ctx: inner, cancel: cancel, conn: conn, o: *o, patience: max(o.patience, w.o.QuickWait), sent: time.Now()}
	v.mu.Lock()
	v.timer = time.AfterFunc(w.pause(), v.look)
	v.mu.Unlock()
	resp, err := conn.RoundTrip(o.request(inner))
	v.end()
	if err != nil {
		if cause := context.Cause(inner); errors.Is(cause, errMute) && ctx.Err() == nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = letGo{resp.Body, cancel}
	return resp, nil
}

// patience is how long the upstream may be silent while it owes the answer to body. There are servers that do nothing else
// while a tool or a resource is at work, so those are waited for; a list or a ping is not.
func (w *Waker) patience(body *payload) time.Duration {
	for i := range body.msgs {
		if m := &body.msgs[i]; m.kind == kindRequest && !m.quick() {
			return w.o.AnswerWait
		}
	}
	return w.o.QuickWait
}

// quick reports whether a request is one that no server needs long for.
func (m *message) quick() bool {
	switch m.method {
	case methodInitialize, methodPing, methodSetLevel, methodSubscribe, methodUnsubscribe, methodDiscover:
		return true
	}
	return strings.HasSuffix(m.method, "/list")
}

// letGo is an answer's body that ends its request's context.
type letGo struct {
	io.ReadCloser

	cancel context.CancelCauseFunc
}

// Close closes the body.
func (b letGo) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// pause is the time between two looks.
func (w *Waker) pause() time.Duration { return min(vigilPause, w.o.QuickWait/3) }

// end lets go of the request; it is not given up any more.
func (v *vigil) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
	v.timer.Stop()
}

// look sees whether there has been any sign of life, asks for one, and gives the request up when its patience is over.
func (v *vigil) look() {
	silent := v.silent()
	if silent >= v.w.pause() && (v.o.session != "" || v.o.patience > 0) && v.ctx.Err() == nil {
		if v.lives() {
			silent = 0
		} else if silent = v.silent(); silent >= v.w.pause() && v.ctx.Err() == nil {
			v.w.tellFailed(errMute, true)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.over:
	case silent >= v.patience:
		v.over = true
		v.cancel(errMute)
	default:
		v.timer.Reset(max(v.w.pause()-silent, min(v.w.pause(), v.patience-silent)))
	}
}

// silent is how long nothing has been heard of the upstream.
func (v *vigil) silent() time.Duration {
	return time.Since(time.Unix(0, max(v.sent.UnixNano(), v.w.health.spoke.Load())))
}

// lives pings the upstream in the request's session, or without one, as the request itself came; where the protocol has no
// ping, it is asked who it is. Any answer will do. It asks for no place below the upstream's rate limit: those that there
// are may all be held by requests that wait.
func (v *vigil) lives() bool {
	ctx, cancel := context.WithTimeout(v.ctx, min(pingTimeout, v.w.pause()))
	defer cancel()
	ask := v.o
	ask.body = request([]byte(`"dormouse-alive"`), methodPing, nil)
	if ask.protocol >= versionNext {
		ask.who.header, ask.body = discovering(ask.who.header), []byte(discover)
	}
	resp, err := v.conn.RoundTrip(ask.request(ctx))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	v.w.health.heard()
	v.w.tellAnswered(resp.StatusCode)
	return true
}
