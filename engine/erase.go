package engine

import (
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// DropEnded drops at once what the engine holds of sessions that the fold has ended without it, as the erasure of
// a tenant does: whoever leases them, their runtimes are closed now. The engine does so by itself within a second.
func (e *Engine) DropEnded() {
	entries := e.snapshot()
	var gone []journal.Ref
	e.o.Table.View(func(st *replay.State) {
		for _, en := range entries {
			if st.Ended(en.ref) {
				gone = append(gone, en.ref)
			}
		}
	})
	for _, ref := range gone {
		e.ended(ref)
	}
}
