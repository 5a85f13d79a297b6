package httptests

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
)

// TestServeEnds: under clients that open one endless stream after the other.
func TestServeEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it has to outlive the subtest
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	t.Run("serving", func(t *testing.T) {
		began := make(chan struct{}, 1)
		s := Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			select {
			case began <- struct{}{}:
			default:
			}
			<-r.Context().Done()
		}))
		for range 8 {
			clients.Go(func() {
				for ctx.Err() == nil {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, http.NoBody)
					if err != nil {
						t.Error(err)
						return
					}
					if res, err := http.DefaultClient.Do(req); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
				}
			})
		}
		<-began
	})
}
