package stdio

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	headerSession = "Mcp-Session-Id"
	typeJSON      = "application/json"

	methodCancelled = "notifications/cancelled" //nolint:misspell // the protocol's spelling

	codeLost     = -32001
	codeRequest  = -32600
	codeCanceled = -32800
)

// conn is one session's connection: a child that is started by initialize, behind streamable HTTP. Once its child has
// ended, every request is answered 404, and the gateway makes another connection.
type conn struct {
	u       *Upstream
	ref     journal.Ref
	env     []string
	secrets []string
	log     zerolog.Logger
	writing chan struct{} // held by who writes to the child

	mu      sync.Mutex
	child   *child
	id      string             // the session's, as initialize has given it out; empty: there is none, or no more
	opening string             // key of the initialize request under way
	calls   map[string]*stream // who waits for a response, by key
	tokens  map[string]*stream // and for progress
	posts   []*stream          // that may carry what belongs to no request, oldest first
	listen  *stream            // the GET
	backlog backlog
	subs    map[string]struct{} // resources
	idle    *time.Timer         // runs while nothing is under way
	used    time.Time           // when the last request ended
	served  bool                // the child was asked for more than what opens a session
	died    error               // why the last child is dead; nil = it is not, or nobody has said yet
	closed  bool
}

// RoundTrip carries one request to the child.
func (c *conn) RoundTrip(r *http.Request) (*http.Response, error) {
	defer func() {
		if r.Body != nil {
			_ = r.Body.Close()
		}
	}()
	switch r.Method {
	case http.MethodPost:
		return c.post(r)
	case http.MethodGet:
		return c.get(r)
	case http.MethodDelete:
		return answer(r, http.StatusOK, "", nil), c.Close()
	}
	return answer(r, http.StatusMethodNotAllowed, "", nil), nil
}

func (c *conn) post(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", gateway.ErrNotSent, err)
	}
	msgs, err := parse(body)
	if err != nil {
		return answer(r, http.StatusBadRequest, typeJSON, rpcError(nil, codeRequest, err.Error())), nil
	}
	opening := len(msgs) == 1 && msgs[0].Method == "initialize"
	if opening {
		if err := c.start(r.Context(), msgs[0].ID); err != nil {
			return nil, fmt.Errorf("%w: %w", gateway.ErrNotSent, err)
		}
		r.Header.Set(headerSession, c.session())
	}
	s, err := c.register(r.Header.Get(headerSession), msgs)
	if err != nil {
		return c.refuse(r, err, opening)
	}
	stop := context.AfterFunc(r.Context(), func() { _ = s.Close() }) // never fails
	if sent, err := c.write(r.Context(), msgs); err != nil {
		stop()
		_ = s.Close() // never fails
		if sent == 0 && r.Context().Err() == nil {
			return c.refuse(r, errLost, opening) // a child that has not got a whole message has executed nothing
		}
		return nil, err
	}
	resp, err := c.await(r, s)
	if err != nil && opening && r.Context().Err() == nil {
		err = fmt.Errorf("%w: %w", gateway.ErrNotSent, err) // what a dead child was told is void
	}
	return resp, err
}

// await returns the answer's head.
func (c *conn) await(r *http.Request, s *stream) (*http.Response, error) {
	if !s.asks {
		_ = s.Close() // never fails
		return answer(r, http.StatusAccepted, "", nil), nil
	}
	select {
	case <-s.started:
	case <-r.Context().Done():
		_ = s.Close() // never fails
		return nil, context.Cause(r.Context())
	}
	resp, err := s.head(r)
	if err != nil {
		_ = s.Close() // never fails
		return nil, err
	}
	if id := r.Header.Get(headerSession); id != "" {
		resp.Header.Set(headerSession, id)
	}
	return resp, nil
}

var (
	errLost   = errors.New("session not found: its process has ended")
	errIDUsed = errors.New("a request with this ID is under way")
)

// refuse says that nothing was executed. For initialize a session that is lost already is a child that does not start.
func (c *conn) refuse(r *http.Request, err error, opening bool) (*http.Response, error) {
	switch {
	case opening && errors.Is(err, errLost):
		return nil, fmt.Errorf("%w: %w", gateway.ErrNotSent, c.death(r.Context()))
	case errors.Is(err, errLost):
		return answer(r, http.StatusNotFound, typeJSON, rpcError(nil, codeLost, err.Error())), nil
	}
	return answer(r, http.StatusBadRequest, typeJSON, rpcError(nil, codeRequest, err.Error())), nil
}

// death says what became of the last child, which is dead or dying.
func (c *conn) death(ctx context.Context) error {
	c.mu.Lock()
	ch := c.child
	c.mu.Unlock()
	if ch != nil {
		select {
		case <-ch.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.died == nil {
		return errLost
	}
	return c.died
}

// get opens the session's own stream. A newer one takes the place of an older one.
func (c *conn) get(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Last-Event-ID") != "" {
		return answer(r, http.StatusMethodNotAllowed, "", nil), nil // nothing is kept that could be sent again
	}
	s := newStream(-1)
	c.mu.Lock()
	if id := r.Header.Get(headerSession); id == "" || id != c.id {
		c.mu.Unlock()
		return c.refuse(r, errLost, false)
	}
	before := c.listen
	c.listen = s
	s.last = func() { c.deaf(s) }
	c.backlog.flush(s)
	c.mu.Unlock()
	if before != nil {
		before.fail(io.EOF)
	}
	context.AfterFunc(r.Context(), func() { _ = s.Close() }) // never fails
	return s.head(r)
}

func (c *conn) deaf(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listen == s {
		c.listen = nil
	}
}

func (c *conn) session() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// start starts the child, unless there is one.
func (c *conn) start(ctx context.Context, id []byte) error {
	switch there, closed := c.state(); {
	case closed:
		return errStopped
	case there:
		return nil // initialize again: let the child say what it thinks of it
	}
	ch, err := c.u.launch(ctx, c, key(id))
	if err != nil {
		return err
	}
	if _, closed := c.state(); closed {
		ch.stop()
		return errStopped
	}
	return nil
}

func (c *conn) state() (there, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.child != nil, c.closed
}

// reset makes the connection ready for a new child.
func (c *conn) reset(ch *child, opening string) {
	c.child, c.id, c.opening, c.died = ch, rand.Text(), opening, nil
	c.calls, c.tokens, c.subs = map[string]*stream{}, map[string]*stream{}, map[string]struct{}{}
	c.posts, c.backlog = nil, backlog{}
	c.used, c.served = time.Now(), false
}

// Close stops the child and waits until it is gone.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	ch := c.lose()
	s := c.listen
	c.mu.Unlock()
	if s != nil {
		s.fail(io.EOF)
	}
	if ch != nil {
		ch.stop()
	}
	return nil
}

// lose makes the session unknown from now on. c.mu is held.
func (c *conn) lose() *child {
	c.id = ""
	if c.idle != nil {
		c.idle.Stop()
	}
	return c.child
}
