package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
)

// What a server of this process works on when the fence falls is given up: the session may be another replica's by now,
// which may already have it work on something else. Whoever waits for the answer is told that nobody knows what became of
// it, and the server is told to stop (a cancellation of MCP). Its runtime stays: if nobody takes the session over, it
// goes on with all that it holds in memory.

// works knows the requests that servers of this process work on. Safe for concurrent use.
type works struct {
	mu  sync.Mutex
	all map[*context.CancelCauseFunc]struct{}
}

// enter returns a context that ends with ctx, or when the fence falls: then fenced is true of it. leave must be called.
func (w *works) enter(ctx context.Context) (bounded context.Context, leave func()) {
	bounded, cancel := context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = make(map[*context.CancelCauseFunc]struct{})
	}
	w.all[&cancel] = struct{}{}
	return bounded, func() {
		w.mu.Lock()
		delete(w.all, &cancel)
		w.mu.Unlock()
		cancel(nil)
	}
}

func (w *works) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for cancel := range w.all {
		(*cancel)(replicas.ErrCutOff)
	}
}

// fenced reports whether ctx has ended because the fence fell.
func fenced(ctx context.Context) bool {
	return ctx.Err() != nil && errors.Is(context.Cause(ctx), replicas.ErrCutOff)
}

// Fenced ends what runtimes that live in this process are doing, streams and requests: their sessions may be another
// replica's by now. Call it when replicas.Options.Fenced is called; it returns at once.
func (w *Waker) Fenced() {
	if w.o.Upstream.Shared() {
		return
	}
	w.streams.cut()
	w.works.cut()
}

// fenced turns the error of an exchange that the fence has ended into one that says whether its request may have been
// executed, and tells the server to stop.
func (x *exchange) fenced(ctx context.Context, err error) error {
	if !fenced(ctx) {
		return err
	}
	if x.at == nil {
		if err != nil {
			err = replicas.ErrCutOff
		}
		return err
	}
	x.p.w.callOff(ctx, x.at, x.who, x.p.spoken(x.who), x.a.payload)
	if err != nil {
		err = fmt.Errorf("%w: %w", errBroken, replicas.ErrCutOff)
	}
	return err
}

// callOffTime bounds how long a server may take to hear that it should stop.
const callOffTime = 2 * time.Second

// callOff tells a server in the background that nobody waits for its answers to a body any more.
func (w *Waker) callOff(ctx context.Context, b *binding, who caller, protocol string, body *payload) {
	var notes [][]byte
	for i := range body.msgs {
		if m := &body.msgs[i]; m.kind == kindRequest {
			notes = append(notes, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"%s","params":{"requestId":%s,"reason":"cut off"}}`, methodCancelled, m.id))
		}
	}
	if len(notes) == 0 {
		return
	}
	who.header = who.header.Clone() // the request is over before
	w.background(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callOffTime)
		defer cancel()
		for _, note := range notes {
			resp, err := w.send(ctx, b.conn, outgoing{method: http.MethodPost, who: who, body: note, session: b.id, protocol: protocol})
			if err != nil {
				w.o.Logger.Debug().Err(err).Msg("a server was not told to stop")
				return
			}
			drain(resp.Body)
			_ = resp.Body.Close()
		}
	})
}
