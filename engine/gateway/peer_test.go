package gateway_test

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
)

// TestBrokenHandshakeIsNoConnection: where a process dies while its kernel still takes connections, nothing was sent, and
// the error says so: such a request may be served elsewhere, whatever it does.
func TestBrokenHandshakeIsNoConnection(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	var dying sync.WaitGroup
	dying.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close() // as when a process dies
		}
	})
	defer dying.Wait()
	defer l.Close()
	_, client, err := replicas.TLS([]byte("secret"))
	must(t, err)
	peers := gateway.NewPeerTransport(client)
	defer peers.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+l.Addr().String()+"/mcp", http.NoBody)
	must(t, err)
	resp, err := peers.RoundTrip(r)
	if err == nil {
		_ = resp.Body.Close()
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("%v", err)
	}
}
