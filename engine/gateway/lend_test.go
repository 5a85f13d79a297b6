package gateway_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// slowWriter is an upstream whose connections answer before a request has been sent whole, as http.RoundTripper allows.
type slowWriter struct {
	mu    sync.Mutex
	wires []io.ReadCloser // bodies of requests, still to be sent
}

func (u *slowWriter) Connect(context.Context, gateway.Tenant) (gateway.Conn, error) { return u, nil }
func (u *slowWriter) Shared() bool                                                  { return true }
func (u *slowWriter) Close() error                                                  { return nil }

func (u *slowWriter) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.wires = append(u.wires, r.Body)
	u.mu.Unlock()
	answer := `{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(answer)),
		Body: nopBody(answer), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// What is still on its way to the upstream when a client has been answered does not become another client's request.
func TestBodyBehindItsAnswer(t *testing.T) {
	up := new(slowWriter)
	s := newSite(t)
	s.boot(up)
	var want []string
	for _, who := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		body := stateless("tools/call", `,"name":"echo","arguments":{"text":"`+strings.Repeat(who, 3000)+`"}`)
		if r := s.raw("POST", body, postNext()...); r.status != http.StatusOK {
			t.Fatal(r)
		}
		want = append(want, body)
	}
	up.mu.Lock()
	defer up.mu.Unlock()
	for i, body := range up.wires[1:] { // the first is the gateway's discover
		if got, err := io.ReadAll(body); err != nil || string(got) != want[i] {
			t.Errorf("request %d went out as %.200s: %v", i, got, err)
		}
		must(t, body.Close())
	}
}
