//go:build unix

package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// BenchmarkPOST is the way of one tools/call through the gateway, every access journaled in memory, beside the same
// upstream asked directly and through a bare reverse proxy.
func BenchmarkPOST(b *testing.B) {
	for _, size := range []int{200, 50 << 10} {
		for _, kind := range []string{"json", "sse"} {
			up := plainUpstream(b, kind, size)
			b.Run(fmt.Sprintf("%s-%d", kind, size), func(b *testing.B) {
				b.Run("direct", func(b *testing.B) { load(b, up.url(), "upstream") })
				b.Run("reverse", func(b *testing.B) {
					target, err := url.Parse(up.url())
					must(b, err)
					d := newDoor(b)
					tr := &http.Transport{MaxIdleConnsPerHost: 512}
					b.Cleanup(tr.CloseIdleConnections)
					d.open(&httputil.ReverseProxy{
						Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
						ErrorLog: nil,
					})
					load(b, d.url(), "upstream")
				})
				b.Run("gateway", func(b *testing.B) {
					s := newSite(b)
					s.boot(httpUpstream(b, up.url()))
					load(b, s.door.url(), s.session())
				})
			})
		}
	}
}

func plainUpstream(tb testing.TB, kind string, size int) *door {
	tb.Helper()
	d := newDoor(tb)
	answer := `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", size) + `"}]}}`
	d.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte(`"initialize"`)) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Mcp-Session-Id", "upstream")
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}`)
			return
		}
		if !bytes.Contains(body, []byte(`"id"`)) {
			w.WriteHeader(202)
			return
		}
		if kind == "json" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: message\ndata: "+answer+"\n\n")
		w.(http.Flusher).Flush()
	}))
	return d
}

// load asks as fast as it can over sixteen connections a processor.
func load(b *testing.B, url, id string) {
	b.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 512}
	defer tr.CloseIdleConnections()
	var failed atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	began := cpu(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequestWithContext(b.Context(), "POST", url, strings.NewReader(
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}`))
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			r.Header.Set("Mcp-Session-Id", id)
			r.Header.Set("Mcp-Protocol-Version", "2025-06-18")
			resp, err := tr.RoundTrip(r)
			if err != nil {
				failed.Add(1)
				continue
			}
			n, err := io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if err != nil || n < 100 || resp.StatusCode != 200 {
				failed.Add(1)
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "cpu-µs/op") // of client and upstream, too
	if n := failed.Load(); n > 0 {
		b.ReportMetric(float64(n)/float64(b.N), "failed/op")
	}
}

// cpu returns the processor time that this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	must(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWake is the gateway's own share of waking a session in process: claim, server, handshake, record.
func BenchmarkWake(b *testing.B) {
	srv := newServer(b, mcp.StreamableHTTPOptions{JSONResponse: true})
	for name, up := range map[string]gateway.Upstream{
		"http":       httpUpstream(b, srv.url()),
		"in process": gateway.NewInProcess(factory),
	} {
		b.Run(name, func(b *testing.B) {
			s := newSite(b)
			r := s.boot(up)
			ids := make([]string, b.N)
			for i := range ids {
				ids[i] = s.session()
			}
			r.kill()
			s.boot(up)
			b.ResetTimer()
			for _, id := range ids {
				if r := s.raw("POST", ping, post("Mcp-Session-Id", id)...); r.status != 200 {
					b.Fatal(r)
				}
			}
		})
	}
}
