package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// route takes what a child says to where it belongs.
func (c *conn) route(line []byte) {
	msgs, err := parse(line)
	if err != nil {
		if len(bytes.TrimSpace(line)) > 0 {
			c.log.Debug().Int("bytes", len(line)).Msg("child says something that is no message on its stdout")
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range msgs {
		m := &msgs[i]
		if bytes.ContainsAny(m.raw, "\r\n") {
			var b bytes.Buffer
			if json.Compact(&b, m.raw) == nil { // it was parsed
				m.raw = b.Bytes()
			}
		}
		c.pass(m)
	}
}

// pass gives one message to a stream. c.mu is held.
func (c *conn) pass(m *message) {
	if m.response() {
		c.responded(m)
		return
	}
	if m.Method == "notifications/progress" {
		if s := c.tokens[key(m.Params.Progress)]; s != nil && s.send(m.raw) {
			return
		}
	}
	for _, s := range slices.Backward(c.posts) {
		if s.send(m.raw) {
			return
		}
	}
	if c.listen != nil && c.listen.send(m.raw) {
		return
	}
	if n := c.backlog.add(m); n > 0 {
		c.log.Warn().Int("dropped", n).Msg("nobody listens to the child: messages dropped")
	}
}

func (c *conn) responded(m *message) {
	k := key(m.ID)
	s := c.calls[k]
	if s == nil {
		c.log.Debug().Msg("child answers what nobody waits for")
		return
	}
	delete(c.calls, k)
	if k == c.opening {
		c.opening = ""
		c.u.opened(c)
	}
	s.respond(m.raw)
	c.posts = slices.DeleteFunc(c.posts, func(p *stream) bool { return p == s && s.over() })
	c.rest()
}

// bury fails everything that is under way.
func (c *conn) bury(ch *child, err error) {
	c.mu.Lock()
	if c.child != ch {
		c.mu.Unlock()
		return
	}
	c.lose()
	c.child, c.died = nil, err
	calls, listen := c.calls, c.listen
	c.calls = map[string]*stream{}
	c.mu.Unlock()
	for _, s := range calls {
		s.fail(err)
	}
	// A stream whose child was stopped for want of work stays open: nothing is amiss, and a client that comes back
	// to it at once would only start the next child.
	if listen != nil && !errors.Is(err, errStopped) {
		listen.fail(io.ErrUnexpectedEOF)
	}
}

// over reports whether all responses have been given.
func (s *stream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0
}

const (
	maxBacklog      = 256
	maxBacklogBytes = 1 << 20
)

// backlog is what a child has said when nobody listened.
type backlog struct {
	msgs  [][]byte
	bytes int
}

// add keeps a message and returns how many were dropped for it.
func (b *backlog) add(m *message) (dropped int) {
	b.msgs = append(b.msgs, bytes.Clone(m.raw))
	b.bytes += len(m.raw)
	for len(b.msgs) > maxBacklog || b.bytes > maxBacklogBytes {
		b.bytes -= len(b.msgs[0])
		b.msgs = b.msgs[1:]
		dropped++
	}
	return dropped
}

// flush gives everything to a stream.
func (b *backlog) flush(s *stream) {
	for len(b.msgs) > 0 && s.send(b.msgs[0]) {
		b.bytes -= len(b.msgs[0])
		b.msgs = b.msgs[1:]
	}
}
