package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// repeatable reports whether a request that may have been executed may be executed once more. What it is not known of a
// tool, the upstream is asked: since the gateway was started no list of tools need have passed by.
func (x *exchange) repeatable(ctx context.Context, wait *backoff) bool {
	tools, body := &x.p.w.tools, x.a.payload
	if body.repeatable(tools.repeatable) {
		return true
	}
	unknown := false
	if !body.repeatable(func(tool string) bool {
		known := tools.known(tool)
		unknown = unknown || !known
		return !known || tools.repeatable(tool)
	}) || !unknown {
		return false
	}
	for {
		err := x.p.listTools(ctx, x.who)
		if err == nil {
			return body.repeatable(tools.repeatable)
		}
		if known(err) || !errors.Is(err, errDown) && !errors.Is(err, errBroken) || !wait.pause(ctx) {
			x.p.w.o.Logger.Info().Err(err).Stringer("session", x.p.s.Ref()).Msg("the upstream's tools are not known: a call is not repeated")
			return false
		}
	}
}

// maxToolPages is how many pages of a list of tools are asked for.
const maxToolPages = 20

// listTools asks the upstream for its tools, for what they are annotated with.
func (p *proxy) listTools(ctx context.Context, who caller) error {
	b, err := p.bound(ctx, who)
	if err != nil {
		return err
	}
	var params []byte
	for page := range maxToolPages {
		result, err := p.ask(ctx, who, b, fmt.Appendf(nil, `"dormouse-tools-%d"`, page), methodToolsList, params)
		if ref, ok := errors.AsType[*refusal](err); ok && lost(ref.status, ref.body, b.id) {
			if p.shared() {
				p.w.health.lost(b.proven.Load())
			}
			if _, err := p.rebind(ctx, who, b); err != nil {
				return err
			}
			return errDown // it is there again
		}
		if err != nil {
			return err
		}
		p.w.tools.learn(result)
		next := text(result, "nextCursor")
		if next == "" {
			return nil
		}
		params = append(appendString([]byte(`{"cursor":`), next), '}')
	}
	return nil
}

// errNoResult says that the upstream has answered a request of the gateway's own with anything but a result.
var errNoResult = errors.New("the upstream gave no result")

// ask makes a request of the gateway's own.
func (p *proxy) ask(ctx context.Context, who caller, b *binding, id []byte, method string, params []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	resp, err := p.w.send(ctx, b.conn, outgoing{
		method: http.MethodPost, who: who, body: request(id, method, params), session: b.id, protocol: p.spoken(who),
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	if err := p.w.outage(ctx, resp); err != nil {
		return nil, fmt.Errorf("%w: %s", errDown, err.Error())
	}
	var body []byte
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, refusalOf(resp)
	case mediaType(resp.Header) == typeSSE:
		_, body, err = p.w.readOpening(resp.Body, id)
	default:
		body, err = io.ReadAll(io.LimitReader(resp.Body, int64(p.w.o.MaxEvent)))
	}
	if err != nil {
		return nil, p.w.broken(ctx, err)
	}
	if in := peek(body); in.kind == kindResponse && in.result != nil && bytes.Equal(in.id, id) {
		return in.result, nil
	}
	return nil, errNoResult
}

// unserved is what somebody in front of the upstream says who cannot reach it: a load balancer's 502, 503 or 504. Requests that
// may be repeated are, within their time; then it is passed on.
type unserved struct{ *refusal }

func (u *unserved) Unwrap() error { return u.refusal }

// outage reads an answer and closes it if it is one; nil: it is not. What is JSON-RPC was said by the upstream itself. A 503 says
// that the request was not served, and is passed on in the end; of the others nobody knows: errBroken.
func (w *Waker) outage(ctx context.Context, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err == nil && peek(bytes.TrimSpace(head)).kind == kindResponse {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
		return nil
	}
	_ = resp.Body.Close()
	if err != nil {
		return w.broken(ctx, err)
	}
	w.health.failed()
	w.tellFailed(fmt.Errorf("HTTP %d", resp.StatusCode), true)
	if resp.StatusCode == http.StatusServiceUnavailable {
		return &unserved{&refusal{status: resp.StatusCode, header: resp.Header, body: head}}
	}
	return fmt.Errorf("%w: HTTP %s", errBroken, strconv.Itoa(resp.StatusCode))
}

// before turns an error from before the request was sent into one that says so: what broke then was a handshake.
func before(err error) error {
	if errors.Is(err, errBroken) && !known(err) {
		return fmt.Errorf("%w: %s", errDown, err.Error())
	}
	return err
}
