package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	wholeAnswer  = 1 << 20                // bytes of a JSON answer that are read before any is passed on
	drainTime    = 500 * time.Millisecond // for the end of an event stream whose last response has come
	changeWindow = 5 * time.Second        // for journaling what a request has changed
	maxLevel     = 64                     // bytes of a log level; longer ones are none that a server knows
)

// buffers keeps byte buffers between requests.
type buffers struct{ pool sync.Pool }

func (bs *buffers) get() *bytes.Buffer {
	if b, ok := bs.pool.Get().(*bytes.Buffer); ok {
		b.Reset()
		return b
	}
	return bytes.NewBuffer(make([]byte, 0, 8<<10))
}

func (bs *buffers) put(b *bytes.Buffer) {
	if b.Cap() <= 256<<10 {
		bs.pool.Put(b)
	}
}

// deliver passes the upstream's answer on. It takes resp over.
func (x *exchange) deliver(ctx context.Context, b *binding, resp *http.Response) error {
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusMultipleChoices && x.era > b.proven.Load() {
		b.proven.Store(x.era)
	}
	kind := mediaType(resp.Header)
	switch {
	case resp.StatusCode >= http.StatusMultipleChoices && resp.StatusCode < http.StatusBadRequest:
		return refuse(http.StatusBadGateway, codeInternal, "The MCP server redirects its requests")
	case resp.StatusCode != http.StatusOK, resp.Header.Get("Content-Encoding") != "", kind != typeJSON && kind != typeSSE:
		return x.passOn(ctx, resp)
	case kind == typeJSON:
		return x.deliverJSON(ctx, resp)
	}
	s := &relay{p: x.p, a: x.a, b: b, who: x.who, header: resp.Header}
	if len(x.a.payload.msgs) > 0 && !x.a.payload.batch {
		s.request = x.a.payload.msgs[0].id
	}
	err := s.run(ctx, resp.Body)
	if err == nil {
		x.remember(ctx)
	}
	return err
}

// passOn copies an answer that is neither JSON nor events, or no success.
func (x *exchange) passOn(ctx context.Context, resp *http.Response) error {
	copyAnswer(x.a.Header(), resp.Header)
	if resp.ContentLength >= 0 {
		x.a.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	x.a.WriteHeader(resp.StatusCode)
	_, err := io.Copy(x.a, resp.Body)
	if err != nil {
		return x.cut(ctx, err)
	}
	x.a.verdicts.settle(x.a.byStatus())
	return nil
}

// cut gives up an answer in the middle: the client must see that it is not whole.
func (x *exchange) cut(ctx context.Context, err error) error {
	x.a.cut = true
	return x.p.w.broken(ctx, err)
}

// deliverJSON passes a JSON answer on, once it is read whole: until then it can still be repeated.
func (x *exchange) deliverJSON(ctx context.Context, resp *http.Response) error {
	buf := x.p.w.buffers.get()
	defer x.p.w.buffers.put(buf)
	if n := resp.ContentLength; n > 0 && n <= wholeAnswer {
		buf.Grow(int(n) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, wholeAnswer))
	if err != nil {
		return x.p.w.broken(ctx, err)
	}
	copyAnswer(x.a.Header(), resp.Header)
	whole := n < wholeAnswer
	if whole {
		x.a.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		x.judge(buf.Bytes())
	} else if resp.ContentLength >= 0 {
		x.a.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	x.a.WriteHeader(resp.StatusCode)
	if _, err := x.a.Write(buf.Bytes()); err != nil {
		x.a.verdicts.settle(journal.OutcomeCanceled)
		return nil
	}
	if !whole {
		if _, err := io.Copy(x.a, resp.Body); err != nil {
			return x.cut(ctx, err)
		}
	}
	x.a.verdicts.settle(journal.OutcomeOK)
	x.remember(ctx)
	return nil
}

// judge takes the outcomes from a JSON answer: one response or an array of them.
func (x *exchange) judge(body []byte) {
	if at := skipSpace(body, 0); at == len(body) || body[at] != '[' {
		x.p.responded(x.a, body)
		return
	}
	w := walk(body, '[')
	for {
		one, ok := w.element()
		if !ok {
			return
		}
		x.p.responded(x.a, one)
	}
}

// responded takes note of a response.
func (p *proxy) responded(a *answer, data []byte) inbound {
	in := peek(data)
	if in.kind == kindResponse {
		if m := a.verdicts.answered(in.id, in.outcome); m != nil && m.method == methodToolsList {
			p.w.tools.learn(in.result)
		}
	}
	return in
}

// remember journals what requests of the body have changed in the session, now that the upstream has
// agreed. A crash before that costs the change at the next wake, not the answer.
func (x *exchange) remember(ctx context.Context) {
	var c engine.Changes
	for i := range x.a.payload.msgs {
		if x.a.verdicts.outcome[i] == journal.OutcomeOK {
			x.a.payload.msgs[i].note(&c)
		}
	}
	if c.LogLevel == "" && c.Subscribed == nil && c.Unsubscribed == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeWindow)
	defer cancel()
	if err := x.p.s.Change(ctx, c); err != nil {
		x.p.w.o.Logger.Warn().Err(err).Stringer("session", x.p.s.Ref()).Msg("log level or subscription not journaled")
	}
}

// note adds to c what the request asks the session to keep.
func (m *message) note(c *engine.Changes) {
	switch m.method {
	case methodSetLevel:
		if level := text(m.params, "level"); len(level) <= maxLevel {
			c.LogLevel = level
		}
	case methodSubscribe:
		c.Subscribed = append(c.Subscribed, text(m.params, "uri"))
	case methodUnsubscribe:
		c.Unsubscribed = append(c.Unsubscribed, text(m.params, "uri"))
	}
}
