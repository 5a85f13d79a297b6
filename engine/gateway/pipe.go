package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// maxPiped is how many bytes a handler may be ahead of its reader.
const maxPiped = 1 << 20

// pipe turns what an http.Handler writes into an *http.Response whose body streams: it is the handler's
// ResponseWriter and the response's Body.
type pipe struct {
	cancel context.CancelFunc
	ready  chan struct{} // closed when the head stands

	mu     sync.Mutex
	cond   sync.Cond
	header http.Header
	head   http.Header // what header was when the head was written
	status int
	buf    []byte      // written, not yet read
	ended  bool        // the handler has returned
	closed bool        // the reader has gone
	failed any         // the handler's panic
	unhook func() bool // undoes the watch on the request's context
}

// newPipe returns a pipe that closes when ctx ends. cancel ends the handler's request.
func newPipe(ctx context.Context, cancel context.CancelFunc) *pipe {
	p := &pipe{cancel: cancel, ready: make(chan struct{}), header: make(http.Header)}
	p.cond.L = &p.mu
	p.unhook = context.AfterFunc(ctx, func() { _ = p.Close() }) // never fails
	return p
}

// Header returns the header to be filled before the first write.
func (p *pipe) Header() http.Header { return p.header }

// WriteHeader freezes the header; the first call counts.
func (p *pipe) WriteHeader(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin(status)
}

func (p *pipe) begin(status int) {
	if p.status != 0 || status < http.StatusOK {
		return
	}
	p.status = status
	p.head = p.header.Clone()
	close(p.ready)
}

// Write waits while the reader is too far behind.
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin(http.StatusOK)
	for len(p.buf) > maxPiped && !p.closed {
		p.cond.Wait()
	}
	if p.closed {
		return 0, io.ErrClosedPipe
	}
	p.buf = append(p.buf, b...)
	p.cond.Broadcast()
	return len(b), nil
}

// Flush makes the head known; data is at hand as soon as it is written.
func (p *pipe) Flush() { p.WriteHeader(http.StatusOK) }

// finish is called when the handler has returned; it recovers the handler's panic for the reader.
func (p *pipe) finish() {
	failed := recover()
	p.unhook()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed, p.ended = failed, true
	if failed != nil && p.status == 0 {
		p.begin(http.StatusInternalServerError)
	}
	p.begin(http.StatusOK)
	p.cond.Broadcast()
}

// response waits for the head.
func (p *pipe) response(r *http.Request) (*http.Response, error) {
	select {
	case <-p.ready:
	case <-r.Context().Done():
		_ = p.Close() // never fails
		return nil, context.Cause(r.Context())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &http.Response{
		StatusCode: p.status, Header: p.head, Body: p, ContentLength: -1, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// Read waits for data or the handler's end.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buf) == 0 && !p.ended && !p.closed {
		p.cond.Wait()
	}
	switch {
	case p.closed:
		return 0, http.ErrBodyReadAfterClose
	case len(p.buf) > 0:
		n := copy(b, p.buf)
		p.buf = p.buf[n:]
		p.cond.Broadcast()
		return n, nil
	case p.failed != nil:
		return 0, fmt.Errorf("the server panicked: %v", p.failed)
	}
	return 0, io.EOF
}

// Close ends the handler's request.
func (p *pipe) Close() error {
	p.mu.Lock()
	p.closed = true
	p.cond.Broadcast()
	p.mu.Unlock()
	p.cancel()
	return nil
}
