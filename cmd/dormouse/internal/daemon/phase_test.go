package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/replay"
)

// ask sends one request to the phase and tells how long it took.
func ask(t *testing.T, p *phase, method string) (status int, took time.Duration) {
	t.Helper()
	w := httptest.NewRecorder()
	began := time.Now()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/mcp", nil))
	return w.Code, time.Since(began)
}

func TestRequestsWaitForTheRestore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPhase()
		p.enter(phaseRestoring)
		p.note(replay.Progress{Seq: 3, Target: 9})
		if status, took := ask(t, p, http.MethodPost); status != http.StatusServiceUnavailable || took != requestWait {
			t.Errorf("POST: %d after %v", status, took)
		}
		if status, took := ask(t, p, http.MethodGet); status != http.StatusServiceUnavailable || took != streamWait {
			t.Errorf("GET: %d after %v", status, took)
		}
		time.AfterFunc(time.Second, func() {
			p.open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		})
		if status, took := ask(t, p, http.MethodPost); status != http.StatusTeapot || took != time.Second {
			t.Errorf("POST when it became ready: %d after %v", status, took)
		}
		if status, took := ask(t, p, http.MethodGet); status != http.StatusTeapot || took != 0 {
			t.Errorf("GET when ready: %d after %v", status, took)
		}
	})
}

func TestReadyzTellsTheProgress(t *testing.T) {
	t.Parallel()
	d := &daemon{phase: newPhase()}
	for _, state := range []string{phaseOpening, phaseRestoring} {
		d.phase.enter(state)
		d.phase.note(replay.Progress{Seq: 3, Target: 9, Events: 12, Sessions: 2})
		w := httptest.NewRecorder()
		d.public().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		var x readiness
		if err := json.Unmarshal(w.Body.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		x.ElapsedMS = 0
		if want := (readiness{State: state, Folded: 3, Target: 9, Events: 12, Sessions: 2}); w.Code != http.StatusServiceUnavailable || x != want {
			t.Errorf("%d %+v, want 503 %+v", w.Code, x, want)
		}
	}
}

func TestStreamsEndAtShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPhase()
		p.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			w.WriteHeader(http.StatusTeapot)
		}))
		time.AfterFunc(time.Minute, p.shut)
		if status, took := ask(t, p, http.MethodGet); status != http.StatusTeapot || took != time.Minute {
			t.Errorf("a stream: %d after %v", status, took)
		}
		if status, _ := ask(t, p, http.MethodPost); status != http.StatusServiceUnavailable {
			t.Errorf("a request while stopping: %d", status)
		}
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("a stream while stopping is not cut off: %v", err)
				}
			}()
			ask(t, p, http.MethodGet)
		}()
		if r := p.now(); r.State != phaseStopping {
			t.Errorf("state %s", r.State)
		}
	})
}

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1:8808": true, "localhost:1": true, "[::1]:8808": true, "127.8.9.1:1": true,
		":8808": false, "0.0.0.0:8808": false, "[::]:1": false, "10.0.0.1:1": false, "example.com:1": false, "127.0.0.1": false, "": false,
	} {
		if got := IsLoopback(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}
