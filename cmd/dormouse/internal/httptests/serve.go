// Package httptests serves HTTP in tests whose clients do not go away by themselves.
package httptests

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Serve serves h on a loopback address until the test ends. It ends also under clients that hold streams open and connect
// anew until the last moment, which httptest.Server.Close by itself would wait for without end.
func Serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			s.Close()
		}()
		for {
			s.CloseClientConnections()
			select {
			case <-closed:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return s
}
