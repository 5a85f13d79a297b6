package gateway

import (
	"hash/maphash"
	"sync"
)

// hints remembers which tools their upstream annotates as read-only or idempotent, from the answers to tools/list
// that pass by. Where lists differ, a tool must be annotated in all of them. Safe for concurrent use.
type hints struct {
	mu   sync.RWMutex
	seed maphash.Seed
	seen map[uint64]struct{} // lists that were read; they repeat all the time
	safe map[string]bool
}

const (
	maxLists = 256
	maxTools = 10_000
)

// learn reads a tools/list result.
func (h *hints) learn(result []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seed, h.seen, h.safe = maphash.MakeSeed(), make(map[uint64]struct{}), make(map[string]bool)
	}
	sum := maphash.Bytes(h.seed, result)
	if _, known := h.seen[sum]; known {
		return
	}
	if len(h.seen) >= maxLists {
		clear(h.seen)
	}
	h.seen[sum] = struct{}{}
	w := walk(field(result, "tools"), '[')
	for {
		tool, ok := w.element()
		if !ok {
			return
		}
		name, notes := text(tool, "name"), field(tool, "annotations")
		safe := string(field(notes, "readOnlyHint")) == "true" || string(field(notes, "idempotentHint")) == "true"
		if before, known := h.safe[name]; (known || len(h.safe) < maxTools) && (!known || before) {
			h.safe[name] = safe
		}
	}
}

// known reports whether a list has told of a tool.
func (h *hints) known(tool string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, ok := h.safe[tool]
	return ok
}

// repeatable reports whether a tool may be called twice without harm.
func (h *hints) repeatable(tool string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.safe[tool]
}
