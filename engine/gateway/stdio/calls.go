package stdio

import (
	"context"
	"fmt"
	"time"
)

// register prepares for the responses to msgs.
func (c *conn) register(session string, msgs []message) (*stream, error) {
	asked := map[string]bool{}
	n := 0
	for i := range msgs {
		if msgs[i].request() {
			asked[key(msgs[i].ID)] = true
			n++
		}
	}
	s := newStream(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if session == "" || session != c.id {
		return nil, errLost
	}
	for k := range asked {
		if c.calls[k] != nil || len(asked) < n {
			return nil, errIDUsed
		}
	}
	if n == 0 {
		return s, nil
	}
	s.last = func() { c.drop(s) }
	c.idle.Stop()
	for i := range msgs {
		c.expect(s, &msgs[i])
	}
	if s.carries {
		c.posts = append(c.posts, s)
		c.backlog.flush(s)
	}
	return s, nil
}

// expect notes what a message asks for. c.mu is held.
func (c *conn) expect(s *stream, m *message) {
	if !m.request() {
		return
	}
	c.calls[key(m.ID)] = s
	if t := m.Params.Meta.Progress; len(t) > 0 {
		c.tokens[key(t)] = s
	}
	s.carries = s.carries || carries(m.Method)
	switch m.Method {
	case "initialize":
		c.opening = key(m.ID)
	case "logging/setLevel":
	case "resources/subscribe":
		c.subs[m.Params.URI] = struct{}{}
	case "resources/unsubscribe":
		delete(c.subs, m.Params.URI)
		c.served = true
	default:
		c.served = true
	}
}

// drop forgets a stream that is over, or that nobody reads any more.
func (c *conn) drop(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, by := range []map[string]*stream{c.calls, c.tokens} {
		for k, who := range by {
			if who == s {
				delete(by, k)
			}
		}
	}
	for i, p := range c.posts {
		if p == s {
			c.posts = append(c.posts[:i:i], c.posts[i+1:]...)
			break
		}
	}
	c.rest()
}

// rest lets the idle time begin if nothing is under way. c.mu is held.
func (c *conn) rest() {
	if len(c.calls) == 0 && c.id != "" {
		c.used = time.Now()
		c.idle.Reset(c.u.o.IdleAfter)
	}
}

// write writes messages to the child, a line each. sent is how many it got whole.
func (c *conn) write(ctx context.Context, msgs []message) (sent int, err error) {
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-c.writing }()
	c.mu.Lock()
	ch := c.child
	c.mu.Unlock()
	if ch == nil {
		return 0, errLost
	}
	for i := range msgs {
		c.canceled(&msgs[i])
		_ = ch.stdin.SetWriteDeadline(time.Now().Add(c.u.o.StartTimeout)) // a pipe has deadlines
		if _, err := ch.stdin.Write(msgs[i].line()); err != nil {
			ch.dying(fmt.Errorf("it does not read: %w", err))
			return sent, fmt.Errorf("write to the child: %w", err)
		}
		sent++
	}
	return sent, nil
}

// canceled answers a request that its client gives up: servers need not answer it any more.
func (c *conn) canceled(m *message) {
	if m.Method != methodCancelled {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := key(m.Params.Request); k != c.opening {
		if s := c.calls[k]; s != nil {
			delete(c.calls, k)
			s.respond(rpcError(m.Params.Request, codeCanceled, "Request canceled"))
		}
	}
}
