package gateway

import (
	"sync"
	"time"
)

// kept is an event stream to a client into which comments are written while nothing else is, as proxies cut what is idle.
type kept struct {
	a     *answer
	every time.Duration

	mu    sync.Mutex // guards a's body and timer
	timer *time.Timer
}

func (k *kept) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = time.AfterFunc(k.every, func() { _ = k.write([]byte(": keepalive\n\n"), true) }) // whoever reads the stream finds out
}

// write writes whole events, and before start and after end nothing.
func (k *kept) write(events []byte, flush bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer == nil {
		return nil
	}
	_, err := k.a.Write(events)
	if flush {
		k.a.Flush()
	}
	k.timer.Reset(k.every)
	return err
}

func (k *kept) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}
