//go:build e2e

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/httptests"
)

// balancer is a plain one, as nginx is by default: round robin, a connection a request, and the next replica where none
// could be made. It looks at /readyz.
type balancer struct {
	replicas []*replica
	ready    []atomic.Bool
	next     atomic.Uint64
	server   *httptest.Server
	client   *http.Client
}

// balance puts a balancer in front of the replicas.
func (f *fleet) balance() *balancer {
	f.t.Helper()
	b := &balancer{
		replicas: f.replicas, ready: make([]atomic.Bool, len(f.replicas)),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}},
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	var checks sync.WaitGroup
	for i := range b.replicas {
		b.look(ctx, i)
		checks.Go(func() {
			for ctx.Err() == nil {
				b.look(ctx, i)
				<-time.After(50 * time.Millisecond)
			}
		})
	}
	b.server = httptests.Serve(f.t, b)
	f.t.Cleanup(func() {
		cancel()
		checks.Wait()
	})
	return b
}

func (b *balancer) look(ctx context.Context, i int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	status, _ := fetchText(ctx, "http://"+b.replicas[i].listen+"/readyz")
	b.ready[i].Store(status == http.StatusOK)
}

// ServeHTTP implements http.Handler.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	start := int(b.next.Add(1) % uint64(len(b.replicas)))
	for _, wantReady := range []bool{true, false} {
		for k := range b.replicas {
			i := (start + k) % len(b.replicas)
			if b.ready[i].Load() == wantReady && b.pass(w, r, body, b.replicas[i]) {
				return
			}
		}
	}
	http.Error(w, "no replica", http.StatusBadGateway)
}

// pass reports whether the replica could be reached.
func (b *balancer) pass(w http.ResponseWriter, r *http.Request, body []byte, to *replica) bool {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, to.url(), strings.NewReader(string(body)))
	if err != nil {
		panic(err)
	}
	req.Header = r.Header.Clone()
	res, err := b.client.Do(req)
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	if err != nil {
		if r.Context().Err() == nil {
			http.Error(w, "bad gateway", http.StatusBadGateway)
		}
		return true
	}
	defer res.Body.Close()
	for name, values := range res.Header {
		if name != "Connection" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(res.StatusCode)
	room := make([]byte, 16<<10)
	for {
		n, err := res.Body.Read(room)
		if _, werr := w.Write(room[:n]); werr != nil {
			return true
		}
		_ = http.NewResponseController(w).Flush() // a client that is gone is noticed at the next write
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
