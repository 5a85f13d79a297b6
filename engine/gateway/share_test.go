package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// BenchmarkLiveSession reports what a live session behind an HTTP upstream holds in memory, all in, while it has no stream
// open: heap and stacks with b.N of them, without the gateway that had them. Run it with -benchtime 10000x.
func BenchmarkLiveSession(b *testing.B) {
	s := newSite(b)
	up := httpUpstream(b, plainUpstream(b, "json", 100).url())
	id := gateway.Identifier{Name: s.ring.Name, Context: readContext}
	mod := setup{
		gateway: func(o *gateway.Options) { o.Identify = id.Identify },
		engine: func(o *engine.Options) {
			o.MaxSessions, o.MaxLive, o.HibernateAfter = b.N+1, b.N+1, time.Hour
		},
	}
	ask := func(r *replica, i int, body string, header ...string) string {
		req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/", strings.NewReader(body))
		for i, h := 0, append(post("X-N8n-Url", "https://one.example", "X-N8n-Key", "key-0123456789", "X-Instance-Id", fmt.Sprint(i)), header...); i+1 < len(h); i += 2 {
			req.Header.Set(h[i], h[i+1])
		}
		rec := httptest.NewRecorder()
		r.ServeHTTP(rec, req)
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Code, rec.Body)
		}
		return rec.Header().Get("Mcp-Session-Id")
	}
	r := s.boot(up, mod)
	ids := make([]string, b.N)
	for i := range ids {
		ids[i] = ask(r, i, initialize)
	}
	r.kill()
	r = s.boot(up, mod)
	for i := range ids { // wakes them, and the requests of a life
		for range 3 {
			ask(r, i, ping, "Mcp-Session-Id", ids[i])
		}
	}
	r.flush()
	if live := r.engine.SessionInfo().Live; live != b.N {
		b.Fatalf("%d live sessions", live)
	}
	awake := used()
	r.kill()
	r.Gateway, r.engine, r.waker, r.committer, r.follower = nil, nil, nil, nil, nil
	none := used()
	b.ReportMetric(float64(awake-none)/float64(b.N), "B/session")
	b.ReportMetric(0, "ns/op")
}

// used returns the bytes of heap and stacks in use.
func used() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// timed is an upstream that adds up how long it takes to answer.
type timed struct {
	gateway.Upstream

	took atomic.Int64
}

func (u *timed) Connect(ctx context.Context, t gateway.Tenant) (gateway.Conn, error) {
	c, err := u.Upstream.Connect(ctx, t)
	return timedConn{c, u}, err
}

type timedConn struct {
	gateway.Conn

	u *timed
}

func (c timedConn) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := c.Conn.RoundTrip(r)
	c.u.took.Add(int64(time.Since(began)))
	if err == nil {
		resp.Body = timedBody{resp.Body, c.u}
	}
	return resp, err
}

type timedBody struct {
	io.ReadCloser

	u *timed
}

func (b timedBody) Read(p []byte) (int, error) {
	began := time.Now()
	defer func() { b.u.took.Add(int64(time.Since(began))) }()
	return b.ReadCloser.Read(p)
}

// BenchmarkWakeShare reports the gateway's own share of waking a session whose upstream has lost it: the claim, the replayed
// handshake, the record and the request, without the time for which the upstream was waited for. The journal is in memory.
func BenchmarkWakeShare(b *testing.B) {
	srv := newStubborn(b)
	for name, up := range map[string]gateway.Upstream{
		"http":       httpUpstream(b, srv.door.url()),
		"in process": gateway.NewInProcess(factory),
	} {
		b.Run(name, func(b *testing.B) {
			s := newSite(b)
			u := &timed{Upstream: up}
			big := setup{engine: func(o *engine.Options) { o.MaxSessions, o.MaxLive = b.N+1, b.N+1 }}
			r := s.boot(u, big)
			ids := make([]string, b.N)
			for i := range ids {
				ids[i] = s.session()
			}
			r.kill()
			srv.forget()
			r = s.boot(u, big)
			u.took.Store(0)
			b.ResetTimer()
			for _, id := range ids {
				req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/", strings.NewReader(ping))
				for i, h := 0, post("Mcp-Session-Id", id); i+1 < len(h); i += 2 {
					req.Header.Set(h[i], h[i+1])
				}
				rec := httptest.NewRecorder()
				r.ServeHTTP(rec, req)
				if rec.Code != http.StatusOK {
					b.Fatal(rec.Code, rec.Body)
				}
			}
			b.StopTimer()
			own := b.Elapsed() - time.Duration(u.took.Load())
			b.ReportMetric(float64(own.Microseconds())/float64(b.N), "own-µs/op")
		})
	}
}
