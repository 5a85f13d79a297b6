package replay

import (
	"github.com/dormouse-mcp/dormouse/journal"
)

// ended remembers the refs of sessions that have ended, first to be forgotten first: since the memory
// only ever grows longer, that is the order in which they came.
type ended struct {
	refs  map[journal.Ref]struct{}
	queue []EndedRef
	head  int // queue[:head] is forgotten
	// horizon is the latest end among the forgotten: who was last accessed after it is not one of them.
	horizon journal.Instant
}

func newEnded() ended { return ended{refs: make(map[journal.Ref]struct{})} }

func (e *ended) has(ref journal.Ref) bool {
	_, ok := e.refs[ref]
	return ok
}

func (e *ended) add(ref journal.Ref, at, forget journal.Instant) {
	e.refs[ref] = struct{}{}
	e.queue = append(e.queue, EndedRef{Ref: ref, At: at, Forget: forget})
}

func (e *ended) remembered() []EndedRef { return e.queue[e.head:] }

// prune forgets what is to be forgotten at journal time now.
func (e *ended) prune(now journal.Instant) {
	for e.head < len(e.queue) && e.queue[e.head].Forget <= now {
		old := &e.queue[e.head]
		delete(e.refs, old.Ref)
		e.horizon = max(e.horizon, old.At)
		e.head++
	}
	if e.head > 1024 && e.head > len(e.queue)/2 {
		e.queue = append([]EndedRef(nil), e.queue[e.head:]...)
		e.head = 0
	}
}
