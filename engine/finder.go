package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// finder reads one session from the fold. Finders are pooled and keep their function, so that a request
// allocates nothing for it.
type finder struct {
	ref   journal.Ref
	s     replay.Session
	ok    bool
	ended bool
	view  func(*replay.State)
}

func newFinder() any {
	f := new(finder)
	f.view = func(st *replay.State) {
		f.s, f.ok = st.Session(f.ref)
		f.ended = !f.ok && st.Ended(f.ref)
	}
	return f
}

func newFinderPool() *sync.Pool { return &sync.Pool{New: newFinder} }

func (e *Engine) finder() *finder { return e.finders.Get().(*finder) }

func (e *Engine) free(f *finder) {
	f.s = replay.Session{}
	e.finders.Put(f)
}

// look reads the session as it is folded here.
func (f *finder) look(e *Engine, ref journal.Ref) bool {
	f.ref = ref
	e.o.Table.View(f.view)
	return f.ok
}

// find is look, caught up with the stream's leader if the session is not here: one catch-up serves all who
// ask meanwhile. That it has ended needs no leader.
func (f *finder) find(ctx context.Context, e *Engine, ref journal.Ref) (bool, error) {
	if f.look(e, ref) {
		return true, nil
	}
	if f.ended {
		return false, nil
	}
	if err := e.o.Table.CatchUp(ctx); err != nil {
		return false, fmt.Errorf("look for session %s: %w", ref, unreachable(err))
	}
	return f.look(e, ref), nil
}
