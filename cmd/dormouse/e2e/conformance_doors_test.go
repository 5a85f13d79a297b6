//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// doorkeeper stands between the suite and the gateway. While the gateway is down it lets requests wait, as a load
// balancer or a socket of systemd's would; those under way at the crash break. It knows the sessions that were opened.
type doorkeeper struct {
	*httptest.Server

	mu       sync.Mutex
	open     chan struct{}     // closed while the gateway is there
	sessions map[string]string // those that nobody wants deleted, with their protocol version
}

func startDoorkeeper(t *testing.T, target string) *doorkeeper {
	t.Helper()
	d := &doorkeeper{open: make(chan struct{}), sessions: map[string]string{}}
	close(d.open)
	proxy := passThrough(t, target)
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		open := d.open
		d.mu.Unlock()
		<-open
		if r.Method == http.MethodDelete { // from here on it may be gone, whether or not its client hears of that
			d.forget(r.Header.Get("Mcp-Session-Id"))
		}
		proxy.ServeHTTP(&sessionWatcher{ResponseWriter: w, d: d, r: r}, r)
	}))
	quiet(d.Server)
	t.Cleanup(func() {
		d.CloseClientConnections()
		d.Close()
	})
	return d
}

func (d *doorkeeper) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, id)
}

// hold lets requests wait from now on, until release is called.
func (d *doorkeeper) hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	open := make(chan struct{})
	d.open = open
	return func() { close(open) }
}

// sessionWatcher learns from an answer which sessions there are.
type sessionWatcher struct {
	http.ResponseWriter

	d *doorkeeper
	r *http.Request
}

func (w *sessionWatcher) WriteHeader(status int) {
	w.d.mu.Lock()
	if id := w.Header().Get("Mcp-Session-Id"); id != "" {
		w.d.sessions[id] = w.r.Header.Get("Mcp-Protocol-Version")
	}
	w.d.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
}

func (w *sessionWatcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// passThrough is a reverse proxy that breaks the connection where the other side has broken.
func passThrough(t *testing.T, target string) *httputil.ReverseProxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		FlushInterval: -1,
		Transport:     &http.Transport{DisableKeepAlives: true}, // an idle connection that a crash has cut would break a request after it
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = to.Scheme, to.Host, p.In.Host
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
}

// quiet keeps the server from logging what is meant to happen.
func quiet(s *httptest.Server) { s.Config.ErrorLog = log.New(io.Discard, "", 0) }

// saboteur stands between the gateway and its upstream. Every so many requests it asks for a crash, alternately before
// the upstream has seen the request and when its answer has begun, and holds the request until the crash has been.
type saboteur struct {
	*httptest.Server

	strikes chan *strike

	mu    sync.Mutex
	every int // zero = never
	seen  int
}

// strike is a crash that is wanted, in the middle of a request.
type strike struct {
	number int
	method string // of the request
	begun  bool   // the upstream has begun to answer
	done   chan struct{}
}

func startSaboteur(t *testing.T, target string) *saboteur {
	t.Helper()
	s := &saboteur{strikes: make(chan *strike)}
	proxy := passThrough(t, target)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		k := s.due(r, body)
		switch {
		case k == nil:
			proxy.ServeHTTP(w, r)
		case !k.begun:
			s.crash(t, k)
		default:
			proxy.ServeHTTP(&cutter{ResponseWriter: w, cut: func() { s.crash(t, k) }}, r)
		}
	}))
	quiet(s.Server)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *saboteur) crashEvery(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.every = n
}

// due returns the strike that is to hit this request, if any.
func (s *saboteur) due(r *http.Request, body []byte) *strike {
	var m struct{ Method string }
	_ = json.Unmarshal(body, &m) // a GET has none
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen++; s.every == 0 || s.seen%s.every != 0 {
		return nil
	}
	return &strike{number: s.seen, method: strings.TrimSpace(r.Method + " " + m.Method), begun: s.seen/s.every%2 == 0, done: make(chan struct{})}
}

// crash has it done, and breaks the request.
func (s *saboteur) crash(t *testing.T, k *strike) {
	select {
	case s.strikes <- k:
		<-k.done
	case <-t.Context().Done():
	}
	panic(http.ErrAbortHandler)
}

// cutter cuts an answer off when it has begun.
type cutter struct {
	http.ResponseWriter

	cut func()
}

func (c *cutter) Write([]byte) (int, error) {
	c.cut()
	return 0, io.ErrClosedPipe
}

func (c *cutter) WriteHeader(status int) { c.ResponseWriter.WriteHeader(status) }
