package gateway

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// meter keeps the gateway below the rate limit of a shared upstream that announces one (RateLimit-Remaining and its
// kin). Some limiters count what is under way and give it back when it has gone well: n8n-mcp allows twenty at a time
// from one address, each open GET stream among them, and whoever goes over that is locked out for a quarter of an hour.
//
// No more requests are under way than the upstream has left, and never more than half of the most that it ever had
// left; GET streams, which stay, get a quarter of what is left. A limiter that counts down for good is not helped by waiting:
// nobody waits for more than meterPatience. Until the upstream has first answered, a few requests go ahead of the
// others to find out. Safe for concurrent use.
type meter struct {
	free atomic.Bool // the upstream announces no limit: nothing is counted

	mu        sync.Mutex
	known     bool          // something was announced
	remaining int           // as announced last
	most      int           // ever announced
	underway  int           // requests whose answers have not been read to the end
	streams   int           // GET streams
	change    chan struct{} // closed, and replaced, when somebody who waits may go on
}

const (
	meterPatience = 5 * time.Second
	meterScouts   = 4 // requests under way before anything is known
)

func newMeter(shared bool) *meter {
	m := &meter{change: make(chan struct{})}
	m.free.Store(!shared)
	return m
}

// enter waits until a request may go out. What it returns must be called once, when the answer has been read. It fails
// with ctx's cause alone.
func (m *meter) enter(ctx context.Context) (leave func(), err error) {
	var patience <-chan time.Time
	for !m.free.Load() {
		m.mu.Lock()
		if m.underway < m.places() {
			m.underway++
			m.mu.Unlock()
			return sync.OnceFunc(m.leave), nil
		}
		change := m.change
		m.mu.Unlock()
		if patience == nil {
			timer := time.NewTimer(meterPatience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-change:
		case <-patience:
			return m.force(), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return func() {}, nil
}

// force lets a request go out that has waited long enough.
func (m *meter) force() (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.underway++
	return sync.OnceFunc(m.leave)
}

// places is how many requests may be under way. m.mu is held.
func (m *meter) places() int {
	if !m.known {
		return meterScouts
	}
	return min(m.remaining, m.most/2) + 1
}

func (m *meter) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.underway--
	m.wake()
}

// wake lets those who wait look again. m.mu is held.
func (m *meter) wake() {
	close(m.change)
	m.change = make(chan struct{})
}

// stream reports whether one more GET stream may be open; leave must then be called when it has ended.
func (m *meter) stream() (leave func(), ok bool) {
	if m.free.Load() {
		return func() {}, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known && m.streams >= m.remaining/4 {
		return nil, false
	}
	m.streams++
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.streams--
	}), true
}

// hear takes note of what an answer announces.
func (m *meter) hear(h http.Header) {
	remaining, announced := remainingOf(h)
	if !announced && m.free.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case announced:
		m.known, m.remaining, m.most = true, remaining, max(m.most, remaining)
		m.free.Store(false)
	case !m.known: // answers without the header are common where there is a limit: only at first do they tell
		m.free.Store(true)
	default:
		return
	}
	m.wake()
}

// remainingOf reads the forms in use: RateLimit-Remaining and X-RateLimit-Remaining (13), and RateLimit of the drafts
// from 7 on ("limit=20, remaining=13, reset=9", "\"default\";r=13;t=9").
func remainingOf(h http.Header) (n int, ok bool) {
	for _, name := range [...]string{"Ratelimit-Remaining", "X-Ratelimit-Remaining"} {
		if v := h[name]; len(v) > 0 {
			return count(v[0])
		}
	}
	if v := h["Ratelimit"]; len(v) > 0 {
		for part := range strings.FieldsFuncSeq(v[0], func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
			if s, found := strings.CutPrefix(part, "remaining="); found {
				return count(s)
			}
			if s, found := strings.CutPrefix(part, "r="); found {
				return count(s)
			}
		}
	}
	return 0, false
}

func count(s string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	return n, err == nil && n >= 0
}

// metered gives a place back when the answer has been read to its end, or is closed.
type metered struct {
	io.ReadCloser
	leave func()
}

func (b metered) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.leave()
	}
	return n, err
}

// Close gives the place back.
func (b metered) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}
