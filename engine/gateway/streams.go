package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

// methodResume is how a GET is journaled that wants the rest of an answer, and not the session's stream.
const methodResume = "resume"

// streamMethod is how a GET of that session is journaled.
func (w *Waker) streamMethod(ref journal.Ref, r *http.Request) string {
	if at, ok := w.cursors.decode(ref, r.Header.Get(headerLastEventID)); ok && len(at.request) > 0 {
		return methodResume
	}
	return http.MethodGet
}

// streams knows the GET streams that this process serves, so that a session's ends when a newer one is opened on another
// replica: the journal's order says which is the newer. Safe for concurrent use.
type streams struct {
	mu sync.Mutex
	by map[journal.Ref][]*standing
}

// standing is one stream, or one that is about to begin.
type standing struct {
	cancel context.CancelCauseFunc
	number uint64 // of its opened event, among this engine's calls; zero until that is posted
	seen   uint64 // the newest such event of this process that was folded
	folded chan struct{}
}

// orderPatience bounds how long a stream waits for its place in the journal.
const orderPatience = time.Second

// announce notes that a stream is about to begin; leave must be called when it has ended.
func (s *streams) announce(ref journal.Ref, cancel context.CancelCauseFunc) (st *standing, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[journal.Ref][]*standing)
	}
	st = &standing{cancel: cancel, folded: make(chan struct{})}
	s.by[ref] = append(s.by[ref], st)
	return st, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.by[ref] = slices.DeleteFunc(s.by[ref], func(x *standing) bool { return x == st })
		if len(s.by[ref]) == 0 {
			delete(s.by, ref)
		}
	}
}

// await waits until the stream's opened event is folded: from then on, whatever is opened elsewhere is newer. While the
// journal is out of reach it does not wait for long.
func (s *streams) await(ctx context.Context, st *standing, number uint64) {
	s.mu.Lock()
	st.number = number
	st.check()
	s.mu.Unlock()
	timer := time.NewTimer(orderPatience)
	defer timer.Stop()
	select {
	case <-st.folded:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// check notes that the stream has its place. streams.mu is held.
func (st *standing) check() {
	if st.number != 0 && st.seen >= st.number && !st.ordered() {
		close(st.folded)
	}
}

func (st *standing) ordered() bool {
	select {
	case <-st.folded:
		return true
	default:
		return false
	}
}

// Heard takes note of a batch that was folded; own says that this process wrote it. A GET stream of a session ends when
// a newer one was opened on another replica. It is quick, and must be told of batches in their order.
func (w *Waker) Heard(own bool, events []journal.Event) {
	for i := range events {
		e := &events[i]
		if e.Kind == journal.KindOpened && e.Call.Method == http.MethodGet {
			w.streams.heard(own, e)
		}
	}
}

func (s *streams) heard(own bool, e *journal.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.by[e.Ref] {
		switch {
		case own:
			st.seen = max(st.seen, e.Call.Number)
			st.check()
		case st.ordered():
			st.cancel(errReplaced)
		}
	}
}

// cut ends all streams.
func (s *streams) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.by {
		for _, st := range list {
			st.cancel(replicas.ErrCutOff)
		}
	}
}

// noPeers is where no other replica can be reached.
type noPeers struct{}

var errNoPeers = errors.New("no way to other replicas")

func (noPeers) RoundTrip(*http.Request) (*http.Response, error) { return nil, errNoPeers }
