package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Close ends a session by its ref, durably. It fails with ErrUnknownSession if there is none (any more), and
// with ErrClaimLost if another replica took it over while it was being evicted: a client's and an
// operator's close are final, an eviction ends only the binding that it knew.
func (e *Engine) Close(ctx context.Context, ref journal.Ref, why journal.Reason) error {
	s, ok, err := e.find(ctx, ref)
	if err != nil {
		return err
	}
	if !ok {
		return ErrUnknownSession
	}
	ev := journal.Event{Kind: journal.KindClosed, Ref: ref, At: journal.InstantOf(time.Now()), Epoch: s.Epoch, Reason: why}
	if _, err := e.commit(ctx, ev); err != nil {
		return fmt.Errorf("close session %s: %w", ref, err)
	}
	if _, ok := e.look(ref); ok {
		return fmt.Errorf("close session %s: %w", ref, ErrClaimLost)
	}
	e.ended(ref)
	e.o.Observer.SessionEnded(journal.KindClosed, why)
	return nil
}

// ended drops what the engine holds of a session that is no more.
func (e *Engine) ended(ref journal.Ref) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if en := e.entries[ref]; en != nil {
		e.end(en)
	}
}

// maxOrphans bounds how many orphans are remembered; what overflows expires by its timeout.
const maxOrphans = 1000

// orphans are sessions that may have been created although their creator was told otherwise: nobody holds
// their IDs. The sweep closes them.
type orphans struct {
	mu   sync.Mutex
	refs []journal.Ref
}

func (o *orphans) add(ref journal.Ref) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.refs) < maxOrphans {
		o.refs = append(o.refs, ref)
	}
}

func (o *orphans) take() []journal.Ref {
	o.mu.Lock()
	defer o.mu.Unlock()
	refs := o.refs
	o.refs = nil
	return refs
}

// closeOrphans journals their end. Their created events went before through the same writer, so they are
// stored by now or never will be; a close of what never was changes nothing.
func (e *Engine) closeOrphans(ctx context.Context) {
	refs := e.orphan.take()
	for chunk := range slices.Chunk(refs, sweepChunk) {
		events := make([]journal.Event, len(chunk))
		for i, ref := range chunk {
			events[i] = journal.Event{
				Kind: journal.KindClosed, Ref: ref, At: journal.InstantOf(time.Now()), Epoch: 1, Reason: journal.ReasonEvicted,
			}
		}
		if _, err := e.commit(ctx, events...); err != nil {
			for _, ref := range chunk {
				e.orphan.add(ref)
			}
		}
	}
}
