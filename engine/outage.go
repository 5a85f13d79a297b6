package engine

import (
	"sync"
	"time"
)

// outage remembers when the stream was last out of reach. Until grace after that nothing expires: accesses
// may be waiting in the buffer of any replica.
type outage struct {
	grace time.Duration

	mu    sync.Mutex
	until time.Time
	heard time.Time // last good word from the stream
}

func (o *outage) note(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.until = now.Add(o.grace)
}

func (o *outage) good(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = now
}

// over reports whether sessions may expire.
func (o *outage) over(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !now.Before(o.until)
}

// silent reports whether the stream has not been heard of for a quarter of the grace period.
func (o *outage) silent(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return now.Sub(o.heard) >= o.grace/4
}
