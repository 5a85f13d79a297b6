package jetstream

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// waiting holds who waits for an answer from the server. When the connection is lost, none comes any more:
// who waited on would hold up everybody behind for the whole timeout.
type waiting struct {
	mu      sync.Mutex
	cancels map[*context.CancelCauseFunc]struct{}
}

// whileConnected returns a context that ends with ctx, or as soon as the connection is lost. The caller
// calls release.
func (j *Journal) whileConnected(ctx context.Context) (connected context.Context, release func()) {
	connected, cancel := context.WithCancelCause(ctx)
	w := &j.waiting
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancels == nil {
		w.cancels = make(map[*context.CancelCauseFunc]struct{})
	}
	w.cancels[&cancel] = struct{}{}
	return connected, func() {
		w.mu.Lock()
		delete(w.cancels, &cancel)
		w.mu.Unlock()
		cancel(nil)
	}
}

// watch tells those who wait whenever the connection is lost, until it is closed.
func (w *waiting) watch(lost <-chan nats.Status) {
	for status := range lost {
		w.mu.Lock()
		for cancel := range w.cancels {
			(*cancel)(errNotConnected)
		}
		w.mu.Unlock()
		if status == nats.CLOSED {
			return
		}
	}
}
