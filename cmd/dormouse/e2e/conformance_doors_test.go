//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/httptests"
)

// doorkeeper stands between the suite and the gateway. While the gateway is down it lets requests wait, as a load
// balancer or a socket of systemd's would; those under way at the crash break. It knows the sessions that were opened,
// and what came of the requests.
type doorkeeper struct {
	*httptest.Server

	mu       sync.Mutex
	open     chan struct{}     // closed while the gateway is there
	sessions map[string]string // those that nobody wants deleted, with their protocol version
	running  func() string     // the scenario; nil = none is
	inFlight []casualty
}

// casualty is a request that was not answered by its server: its connection broke, or the gateway answered that it may
// have been executed.
type casualty struct{ scenario, what string }

func startDoorkeeper(t *testing.T, target string) *doorkeeper {
	t.Helper()
	d := &doorkeeper{open: make(chan struct{}), sessions: map[string]string{}}
	close(d.open)
	proxy := passThrough(t, target)
	proxy.ErrorHandler = func(_ http.ResponseWriter, r *http.Request, err error) {
		d.broke(r, err)
		panic(http.ErrAbortHandler)
	}
	proxy.ModifyResponse = func(resp *http.Response) error {
		resp.Body = &watchedBody{ReadCloser: resp.Body, d: d, r: resp.Request}
		return nil
	}
	d.Server = httptests.Serve(t, whole(func(w http.ResponseWriter, r *http.Request) {
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

// watch makes it note casualties. running returns the scenario that is under way.
func (d *doorkeeper) watch(running func() string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = running
}

func (d *doorkeeper) casualties() []casualty {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.inFlight)
}

// broke notes a request whose answer ended in err. One that its client has given up is none; nor is a stream of the
// server's own messages, as nobody waits for a response there.
func (d *doorkeeper) broke(r *http.Request, err error) {
	if r.Method == http.MethodPost && r.Context().Err() == nil && !errors.Is(err, context.Canceled) {
		d.note(fmt.Sprintf("%s %s: %v", r.Method, r.Header.Get("Mcp-Method"), err))
	}
}

func (d *doorkeeper) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running != nil {
		d.inFlight = append(d.inFlight, casualty{d.running(), what})
	}
}

// watchedBody is an answer on its way to the suite.
type watchedBody struct {
	io.ReadCloser

	d *doorkeeper
	r *http.Request
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if bytes.Contains(p[:n], []byte(`"code":-32051`)) {
		b.d.note(string(p[:n]))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.d.broke(b.r, err)
	}
	return n, err
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

// whole has h get requests with their whole bodies. A reverse proxy needs that: net/http closes a body when the answer
// begins, and a transport that has not seen its end by then breaks the answer off (golang/go#40747).
func whole(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(w, r)
	}
}

// quiet keeps the server from logging what is meant to happen.
func quiet(s *httptest.Server) { s.Config.ErrorLog = log.New(io.Discard, "", 0) }
