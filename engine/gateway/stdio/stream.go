package stdio

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// maxBehind is how many bytes a stream's reader may be behind before the stream is cut.
const maxBehind = 8 << 20

// stream is the answer to a POST or a GET: one JSON response, or server-sent events. It is the answer's body.
type stream struct {
	asks    bool   // for responses
	carries bool   // see carries
	last    func() // called once, when nobody reads or writes any more

	mu      sync.Mutex
	cond    sync.Cond
	buf     []byte
	sse     bool
	begun   bool
	open    int   // responses still to come; -1: as many as will
	err     error // what the reader gets at the end; nil while there is more to come
	closed  bool
	started chan struct{} // closed when the head can be told
}

func newStream(responses int) *stream {
	s := &stream{asks: responses != 0, open: responses, sse: responses != 1, started: make(chan struct{})}
	s.cond.L = &s.mu
	if responses < 0 {
		s.begin()
	}
	return s
}

// begin lets the head be told. s.mu is held, or nobody else knows s.
func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		close(s.started)
	}
}

// send adds a message that is no response; false: nobody will read it.
func (s *stream) send(msg []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.sse = true
	}
	return s.write(msg)
}

// respond adds a response. After the last one the stream ends.
func (s *stream) respond(msg []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(msg) // whoever has gone needs no answer
	if s.open--; s.open == 0 {
		s.end(io.EOF)
	}
}

// write adds a message. s.mu is held.
func (s *stream) write(msg []byte) bool {
	if s.closed || s.err != nil {
		return false
	}
	if len(s.buf) > maxBehind {
		s.end(io.ErrUnexpectedEOF)
		return false
	}
	msg = bytes.TrimRight(msg, "\r\n")
	if s.sse {
		s.buf = append(s.buf, "event: message\ndata: "...)
		s.buf = append(append(s.buf, msg...), "\n\n"...)
	} else {
		s.buf = append(s.buf, msg...)
	}
	s.begin()
	s.cond.Broadcast()
	return true
}

// fail ends the stream early.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(err)
}

func (s *stream) end(err error) {
	if s.err == nil {
		s.err = err
	}
	s.begin()
	s.cond.Broadcast()
}

// head returns the answer once something has been said, or why there is none.
func (s *stream) head(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf) == 0 && s.err != nil {
		return nil, s.err
	}
	kind := "application/json"
	if s.sse {
		kind = "text/event-stream"
	}
	resp := answer(r, http.StatusOK, kind, nil)
	resp.Body = s
	return resp, nil
}

// Read waits for data or the stream's end.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) == 0 && s.err == nil && !s.closed {
		s.cond.Wait()
	}
	switch {
	case s.closed:
		return 0, http.ErrBodyReadAfterClose
	case len(s.buf) > 0:
		n := copy(p, s.buf)
		s.buf = s.buf[n:]
		return n, nil
	}
	return 0, s.err
}

// Close lets go of the stream.
func (s *stream) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed, s.buf = true, nil
	s.begin()
	s.cond.Broadcast()
	s.mu.Unlock()
	if first && s.last != nil {
		s.last()
	}
	return nil
}

// answer returns an answer with a body in memory.
func answer(r *http.Request, status int, kind string, body []byte) *http.Response {
	h := http.Header{}
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	return &http.Response{
		StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: -1, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}
