package gateway

import (
	"context"
	"errors"
	"net/http"
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

// streams knows the GET stream that this process serves for each session, so that it ends when a newer one is opened on
// another replica: the journal's order says which is the newer. Safe for concurrent use.
type streams struct {
	mu sync.Mutex
	by map[journal.Ref]*standing
}

// standing is one stream.
type standing struct {
	number uint64 // of its opened event, among this engine's calls
	since  time.Time
	folded bool // that event was seen: whatever is opened elsewhere from now on is newer
	cancel context.CancelCauseFunc
}

// foldedBy is when a stream's own event was folded for sure, or never will be.
const foldedBy = 2 * time.Second

// join notes the session's newest stream here; leave must be called when it has ended.
func (s *streams) join(ref journal.Ref, number uint64, cancel context.CancelCauseFunc) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[journal.Ref]*standing)
	}
	st := &standing{number: number, since: time.Now(), cancel: cancel}
	if before := s.by[ref]; before != nil {
		before.cancel(errReplaced)
	}
	s.by[ref] = st
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.by[ref] == st {
			delete(s.by, ref)
		}
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
	st := s.by[e.Ref]
	switch {
	case st == nil:
	case own:
		st.folded = st.folded || e.Call.Number >= st.number
	case st.folded || time.Since(st.since) > foldedBy:
		st.cancel(errReplaced)
	}
}

// CutStreams ends all GET streams of runtimes that live in this process: their sessions may be another replica's by now.
func (w *Waker) CutStreams() {
	if w.o.Upstream.Shared() {
		return
	}
	w.streams.mu.Lock()
	defer w.streams.mu.Unlock()
	for _, st := range w.streams.by {
		st.cancel(replicas.ErrCutOff)
	}
}

// noPeers is where no other replica can be reached.
type noPeers struct{}

var errNoPeers = errors.New("no way to other replicas")

func (noPeers) RoundTrip(*http.Request) (*http.Response, error) { return nil, errNoPeers }
