package gateway

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// limiter counts what is under way and gives it back when it went well, but never what it refused, as
// express-rate-limit does with skipSuccessfulRequests.
type limiter struct {
	mu            sync.Mutex
	limit, used   int
	refused, most int
}

func (l *limiter) begin() (remaining int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used++
	l.most = max(l.most, l.used)
	if l.used > l.limit {
		l.refused++
		return 0, false
	}
	return l.limit - l.used, true
}

func (l *limiter) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
}

func announce(remaining string) http.Header {
	return http.Header{"Ratelimit-Limit": {"20"}, "Ratelimit-Remaining": {remaining}}
}

func TestMeterStaysBelowALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := newMeter(true), &limiter{limit: 20}
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				if leave, ok := m.stream(); ok && m.known {
					if _, ok := l.begin(); !ok {
						t.Error("a stream was refused")
					}
					defer leave() // with all others at the end
				}
				for range 25 {
					leave, err := m.enter(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					remaining, ok := l.begin()
					m.hear(announce(string([]byte{'0' + byte(remaining/10), '0' + byte(remaining%10)})))
					time.Sleep(10 * time.Millisecond)
					if ok {
						l.end()
					}
					leave()
				}
			})
		}
		all.Wait()
		if l.refused > 0 || l.most > 16 {
			t.Errorf("%d requests refused, up to %d of %d places used", l.refused, l.most, l.limit)
		}
		if l.most < 8 {
			t.Errorf("only %d of %d places used", l.most, l.limit)
		}
	})
}

func TestMeterLetsGoWhereNothingIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(true)
		for range meterScouts {
			if _, err := m.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		entered := make(chan struct{})
		go func() {
			defer close(entered)
			if _, err := m.enter(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		select {
		case <-entered:
			t.Fatal("a fifth request went out before anything was known")
		default:
		}
		m.hear(http.Header{})
		<-entered
		if !m.free.Load() {
			t.Error("the meter still counts")
		}
	})
}

func TestMeterHasPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(true)
		m.hear(announce("0"))
		began := time.Now()
		for range 2 {
			if _, err := m.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != meterPatience {
			t.Errorf("the second request waited %v, want %v", took, meterPatience)
		}
		if _, ok := m.stream(); ok {
			t.Error("a stream was opened where nothing is left")
		}
	})
}

func TestRemainingOf(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        int
		ok          bool
	}{
		{"RateLimit-Remaining", "13", 13, true},
		{"X-RateLimit-Remaining", " 7 ", 7, true},
		{"RateLimit", "limit=20, remaining=19, reset=900", 19, true},
		{"RateLimit", `"20-in-15min"; r=18; t=900`, 18, true},
		{"RateLimit", `"default";r=5;t=30`, 5, true},
		{"RateLimit-Remaining", "-1", 0, false},
		{"RateLimit-Remaining", "many", 0, false},
		{"RateLimit-Limit", "20", 0, false},
	} {
		h := http.Header{}
		h.Set(c.name, c.value)
		if n, ok := remainingOf(h); ok != c.ok || ok && n != c.want {
			t.Errorf("%s: %s: got %d %v, want %d %v", c.name, c.value, n, ok, c.want, c.ok)
		}
	}
}
