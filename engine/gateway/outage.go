package gateway

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// tellGap is the least time between two warnings of one kind about the upstream.
const tellGap = 30 * time.Second

// outages tells the log when a shared upstream turns unreachable, and when it is back. One that comes and goes is told
// of once in a tellGap. The zero value is ready; safe for concurrent use.
type outages struct {
	trouble atomic.Bool // something below is set; spares each answer the lock
	telling sync.Mutex  // held until the observer has heard of a turn: it hears of them in their order

	mu    sync.Mutex
	row   int       // failures since the last answer
	away  bool      // there were enough of them
	told  bool      // the log knows
	since time.Time // the first of the row
	last  time.Time // of the last warning

	odd time.Time // when initialize was last answered as by no MCP endpoint; guarded by mu
}

// failed reports whether the upstream is taken for unreachable from now on, and whether that is to be told. One connection
// that broke may just have been closed for its age: unless nothing was sent at all, it takes a second failure.
func (o *outages) failed(now time.Time, unsent bool) (turned, tell bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trouble.Store(true)
	if o.row++; o.row == 1 {
		o.since = now
	}
	if !unsent && o.row < 2 {
		return false, false
	}
	turned, o.away = !o.away, true
	if o.told || !o.last.IsZero() && now.Sub(o.last) < tellGap {
		return turned, false
	}
	o.told, o.last = true, now
	return turned, true
}

// answered reports whether the upstream was taken for unreachable, and whether its being back is to be told, and how long
// it was away.
func (o *outages) answered(now time.Time) (away time.Duration, turned, tell bool) {
	if !o.trouble.Load() {
		return 0, false, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	away, turned, tell = now.Sub(o.since), o.away, o.told
	o.row, o.away, o.told = 0, false, false
	o.trouble.Store(false)
	return away, turned, tell
}

// strange reports whether it is to be told that this is no MCP endpoint.
func (o *outages) strange(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.odd.IsZero() && now.Sub(o.odd) < tellGap {
		return false
	}
	o.odd = now
	return true
}

// where returns the upstream's URL as it may be logged; empty where it has none.
func (w *Waker) where() string {
	if u, ok := w.o.Upstream.(fmt.Stringer); ok {
		return u.String()
	}
	return ""
}

// tellFailed tells of an upstream that gave no answer. A child process is one session's affair.
func (w *Waker) tellFailed(err error, unsent bool) {
	if !w.o.Upstream.Shared() {
		return
	}
	w.outages.telling.Lock()
	turned, tell := w.outages.failed(time.Now(), unsent)
	if turned {
		w.o.Observer.UpstreamReachable(false)
	}
	w.outages.telling.Unlock()
	if tell {
		w.o.Logger.Warn().Str("upstream", w.where()).Err(err).Msg("the upstream cannot be reached; requests wait for it")
	}
}

// tellAnswered tells of an upstream that is back. What a balancer says in its place is no sign of it.
func (w *Waker) tellAnswered(status int) {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return
	}
	if !w.outages.trouble.Load() {
		return
	}
	w.outages.telling.Lock()
	away, turned, tell := w.outages.answered(time.Now())
	if turned {
		w.o.Observer.UpstreamReachable(true)
	}
	w.outages.telling.Unlock()
	if tell {
		w.o.Logger.Info().Str("upstream", w.where()).Dur("away_ms", away).Msg("the upstream answers again")
	}
}

// tellStrange tells of a status that no MCP endpoint answers initialize with.
func (w *Waker) tellStrange(status int) {
	if (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) && w.outages.strange(time.Now()) {
		w.o.Logger.Warn().Str("upstream", w.where()).Int("status", status).Msg("the upstream refuses initialize: is this the MCP endpoint?")
	}
}
