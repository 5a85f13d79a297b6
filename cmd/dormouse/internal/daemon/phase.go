package daemon

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// The phases of a daemon.
const (
	phaseOpening   = "opening" // the journal's server starts
	phaseRestoring = "restoring"
	phaseReady     = "ready"
	phaseDraining  = "draining" // serving, while balancers notice that they should look elsewhere
	phaseStopping  = "stopping"
)

// How long requests wait for the end of the restore before they are refused. A restore takes milliseconds as a rule,
// and few clients try again after a 503.
const (
	requestWait = 2 * time.Second
	streamWait  = 30 * time.Second
)

// phase is where a daemon is. Safe for concurrent use.
type phase struct {
	handler atomic.Pointer[http.Handler] // serves /mcp while ready
	ready   chan struct{}                // closed once it is
	ending  chan struct{}                // closed when streams are to end

	mu       sync.Mutex
	name     string
	progress replay.Progress
	restore  *store.Restoration
	began    time.Time
}

// readiness is the answer of /readyz.
type readiness struct {
	State     string      `json:"state"`
	Folded    journal.Seq `json:"folded"`
	Target    journal.Seq `json:"target"`
	Events    uint64      `json:"events"`
	Sessions  int         `json:"sessions"`
	ElapsedMS float64     `json:"elapsedMs"`         // since the start; once ready, how long the restore took
	Replica   *among      `json:"replica,omitempty"` // once ready, where the journal is shared
	Journal   string      `json:"journal,omitempty"` // once ready: "ok", or "unavailable": no new sessions for now

	// Restore is what was restored at the start, and from where; once that is known.
	Restore *store.Restoration `json:"restore,omitempty"`
}

func newPhase() *phase {
	return &phase{name: phaseOpening, began: time.Now(), ready: make(chan struct{}), ending: make(chan struct{})}
}

func (p *phase) enter(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name = name
}

func (p *phase) note(x replay.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress = x
}

// restored notes the end of the restore.
func (p *phase) restored(x replay.Progress, r *store.Restoration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress, p.restore = x, r
}

func (p *phase) now() readiness {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := readiness{
		State: p.name, Folded: p.progress.Seq, Target: p.progress.Target, Events: p.progress.Events,
		Sessions: p.progress.Sessions, ElapsedMS: millis(time.Since(p.began)), Restore: p.restore,
	}
	if p.name == phaseReady || p.name == phaseStopping {
		r.ElapsedMS = millis(p.progress.Elapsed)
	}
	return r
}

func (p *phase) is(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.name == name
}

// open lets requests through to h from now on.
func (p *phase) open(h http.Handler) {
	p.handler.Store(&h)
	p.enter(phaseReady)
	close(p.ready)
}

// shut lets no more requests through and ends the streams.
func (p *phase) shut() {
	p.enter(phaseStopping)
	p.handler.Store(nil)
	close(p.ending)
}

// ServeHTTP serves /mcp: by the gateway while ready. Before, requests wait for a moment and are then answered 503 with
// Retry-After. Those for a stream wait longer: the Go SDK's client gives its session up for good when it comes back to
// a stream and is answered 503. For the same reason streams are cut off, not refused, at the end.
func (p *phase) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	stream := r.Method == http.MethodGet
	if stream {
		p.awaitReady(r.Context(), streamWait)
	} else {
		p.awaitReady(r.Context(), requestWait)
	}
	h := p.handler.Load()
	if p.is(phaseDraining) {
		w.Header().Set("Connection", "close")
	}
	switch {
	case h == nil && stream && p.is(phaseStopping):
		panic(http.ErrAbortHandler)
	case h == nil:
		p.unavailable(w)
	case stream:
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer p.onEnding(cancel)()
		(*h).ServeHTTP(w, r.WithContext(ctx))
	default:
		(*h).ServeHTTP(w, r)
	}
}

// awaitReady waits for the end of the restore, for a while.
func (p *phase) awaitReady(ctx context.Context, patience time.Duration) {
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-p.ready:
	case <-p.ending:
	case <-ctx.Done():
	case <-wait.C:
	}
}

// onEnding calls end when streams are to end, unless the function that it returns was called before.
func (p *phase) onEnding(end func()) (forget func()) {
	gone := make(chan struct{})
	go func() {
		select {
		case <-p.ending:
			end()
		case <-gone:
		}
	}()
	return func() { close(gone) }
}

func (p *phase) unavailable(w http.ResponseWriter) {
	x := p.now()
	retry := 1
	if left := x.Target - x.Folded; x.State == phaseRestoring && left > 1_000_000 {
		retry = 5
	}
	w.Header().Set("Retry-After", strconv.Itoa(retry))
	writeJSON(w, http.StatusServiceUnavailable, map[string]any{
		"jsonrpc": "2.0", "id": nil,
		"error": map[string]any{"code": -32000, "message": "the gateway is " + x.State + "; the session is safe, try again", "data": x},
	})
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
