package engine

import (
	"context"
	"errors"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// store journals a chunk of a restore and counts what the fold accepted.
func (r *restore) store(ctx context.Context, chunk []journal.Event) {
	refs := make([]journal.Ref, len(chunk))
	for i := range chunk {
		refs[i] = chunk[i].Ref
	}
	defer r.e.limits.release(refs...)
	pos, err := r.e.commit(ctx, chunk...)
	if err != nil {
		r.fail(err)
		return
	}
	r.settle(pos, chunk)
}

// settle asks the fold what became of a chunk whose first event is at pos.
func (r *restore) settle(pos journal.Position, chunk []journal.Event) {
	why := make([]error, len(chunk))
	r.e.o.Table.View(func(st *replay.State) {
		for i := range chunk {
			why[i] = verdict(st, &chunk[i], journal.Position{Seq: pos.Seq, Index: pos.Index + uint32(i)})
		}
	})
	for i, err := range why {
		ref := chunk[i].Ref
		switch {
		case err == nil:
			r.mu.Lock()
			r.result.Restored++
			r.mu.Unlock()
			send(r.e.security("session_restore").Stringer("session", ref).Str("instance", chunk[i].Created.Label), "session_restore")
			r.e.o.Observer.SessionCreated()
		case errors.Is(err, errPresent):
			r.skip(ref, &r.result.Skipped.Duplicate, err)
		case errors.Is(err, errEnded):
			r.skip(ref, &r.result.Skipped.Ended, err)
		case errors.Is(err, errExpired):
			r.skip(ref, &r.result.Skipped.Expired, err)
		default:
			r.skip(ref, &r.result.Skipped.Invalid, err)
		}
	}
}

// verdict says why a created event at pos was refused; nil if it was accepted.
func verdict(st *replay.State, ev *journal.Event, pos journal.Position) error {
	s, ok := st.Session(ev.Ref)
	switch {
	case ok && s.Position == pos:
		return nil
	case ok:
		return errPresent
	case st.Ended(ev.Ref):
		return errEnded
	case st.ErasedKey(ev.Created.Tenant, ev.Created.Key):
		return journal.ErrKeyErased
	default:
		return errExpired
	}
}
