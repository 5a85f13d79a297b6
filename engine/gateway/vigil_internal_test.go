package gateway

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"
)

// That somebody doubts whether the upstream is there is no word from it: else a mute upstream that many ask would never be
// told, and their waiting would never end.
func TestDoubtIsNoSignOfLife(t *testing.T) {
	t.Parallel()
	h := newHealth()
	long := time.Now().Add(-time.Hour)
	h.lastOK.Store(long.UnixNano())
	v := &vigil{w: &Waker{health: h}, sent: long}
	if _, _, err := h.admit(t.Context(), 1, func(context.Context) verdict { return verdictNone }); err != nil {
		t.Fatal(err)
	}
	if h.era.Load() == 1 {
		t.Fatal("nobody doubted")
	}
	if s := v.silent(); s < time.Hour {
		t.Errorf("silent for %v", s)
	}
	if h.heard(); v.silent() > time.Minute {
		t.Error("not heard")
	}
}

// turns is an observer whom an answer overtakes while it is told of an outage.
type turns struct {
	nobodyHears

	w  *Waker
	wg sync.WaitGroup
	mu sync.Mutex
	up bool
}

func (o *turns) UpstreamReachable(yes bool) {
	if !yes {
		o.wg.Go(func() { o.w.tellAnswered(200) })
		for range 1000 {
			runtime.Gosched()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up = yes
}

// What an observer hears last is how it is.
func TestTurnsAreToldInOrder(t *testing.T) {
	t.Parallel()
	up, err := NewHTTPUpstream("http://localhost/mcp", HTTPUpstreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := &turns{}
	o.w = &Waker{o: WakerOptions{Upstream: up, Observer: o}, health: newHealth()}
	for range 100 {
		o.w.tellFailed(errMute, true)
		o.wg.Wait()
		if !o.up {
			t.Fatal("the upstream answers, and is told as out of reach")
		}
	}
}
