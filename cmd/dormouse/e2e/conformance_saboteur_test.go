//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/httptests"
)

// saboteur stands in front of a server. Every so many requests it asks for a crash, in turns when all of a request but
// its last byte is with the server and when the answer has begun. It holds the request until the crash has been, and
// breaks it then.
type saboteur struct {
	*httptest.Server

	target  string // host and port of the server
	strikes chan *strike
	over    chan struct{} // closed when nobody takes strikes any more

	mu     sync.Mutex
	every  int // requests from one crash to the next; zero = none
	seen   int // requests since the last one
	struck int
	aiming bool // a strike is on its way
}

// strike is a crash that is wanted now.
type strike struct {
	number int    // from 0 on
	method string // of the request
	done   chan struct{}
}

// inAnswer reports whether the answer has begun. If not, the server cannot have executed the request.
func (k *strike) inAnswer() bool { return k.number%2 == 1 }

func (k *strike) String() string {
	if k.inAnswer() {
		return "answer to " + k.method
	}
	return k.method
}

func startSaboteur(t *testing.T, target string) *saboteur {
	t.Helper()
	s := &saboteur{target: target, strikes: make(chan *strike), over: make(chan struct{})}
	proxy := passThrough(t, "http://"+target)
	s.Server = httptests.Serve(t, whole(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // in memory
		r.Body = io.NopCloser(bytes.NewReader(body))
		switch k := s.due(r, body); {
		case k == nil:
			proxy.ServeHTTP(w, r)
		case k.inAnswer():
			defer s.settle()
			proxy.ServeHTTP(&cutter{ResponseWriter: w, atOnce: r.Method == http.MethodGet, cut: func() { s.crash(k) }}, r)
		default:
			s.tear(k, r, body)
		}
	}))
	quiet(s.Server)
	return s
}

func (s *saboteur) crashEvery(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.every = n
}

// stop ends that, for good.
func (s *saboteur) stop() {
	s.crashEvery(0)
	close(s.over)
}

// due returns the strike that is to hit this request, if any.
func (s *saboteur) due(r *http.Request, body []byte) *strike {
	var m struct{ Method string }
	_ = json.Unmarshal(body, &m) // a GET has none
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen++; s.every == 0 || s.seen < s.every || s.aiming {
		return nil
	}
	s.aiming = true
	return &strike{number: s.struck, method: strings.TrimSpace(r.Method + " " + m.Method), done: make(chan struct{})}
}

// settle lets the next request be struck where this one's answer had no body to be cut.
func (s *saboteur) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aiming = false
}

// tear sends all of a request but the last byte before the crash.
func (s *saboteur) tear(k *strike, r *http.Request, body []byte) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", r.Method, r.URL.RequestURI(), r.Host, len(body))
	_ = r.Header.WriteSubset(&out, map[string]bool{"Content-Length": true}) // a buffer takes all
	out.WriteString("\r\n")
	out.Write(body)
	if conn, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", s.target); err == nil {
		defer conn.Close()
		_, _ = conn.Write(out.Bytes()[:out.Len()-1]) // the server may close it
	}
	s.crash(k)
}

// crash has it done, and breaks the request.
func (s *saboteur) crash(k *strike) {
	s.mu.Lock()
	s.seen, s.aiming = 0, false
	s.struck++
	s.mu.Unlock()
	select {
	case s.strikes <- k:
		select {
		case <-k.done:
		case <-s.over:
		}
	case <-s.over:
	}
	panic(http.ErrAbortHandler)
}

// cutter cuts an answer off where its body begins, or its head.
type cutter struct {
	http.ResponseWriter

	atOnce bool // a stream may stay without a body for long
	cut    func()
}

func (c *cutter) WriteHeader(status int) {
	if c.atOnce {
		c.cut()
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *cutter) Write([]byte) (int, error) {
	c.cut()
	return 0, io.ErrClosedPipe
}
