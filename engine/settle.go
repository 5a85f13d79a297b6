package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// store journals a chunk of a restore and counts what the fold accepted.
func (r *restore) store(ctx context.Context, chunk []draft) {
	refs := make([]journal.Ref, len(chunk))
	for i := range chunk {
		refs[i] = chunk[i].ref
	}
	defer r.e.limits.release(refs...)
	if err := r.keys(ctx, chunk); err != nil {
		r.fail(err)
		return
	}
	events, bytes := make([]journal.Event, 0, len(chunk)), 0
	for i := range chunk {
		ev, err := r.e.imported(ctx, &chunk[i], r.now)
		if err != nil {
			r.fail(err)
			break
		}
		events = append(events, ev)
		bytes += len(ev.Created.ID) + len(ev.Created.Context) + 256
		if bytes >= restoreBytes {
			if !r.commit(ctx, events) {
				return
			}
			events, bytes = nil, 0
		}
	}
	r.commit(ctx, events)
}

// commit reports whether the events are stored.
func (r *restore) commit(ctx context.Context, events []journal.Event) bool {
	if len(events) == 0 {
		return true
	}
	pos, err := r.e.commit(ctx, events...)
	if err != nil {
		r.fail(err)
		return false
	}
	r.settle(pos, events)
	return true
}

// keys makes sure that the vault has the keys of all tenants in the chunk, many at once: a new one must be on disk
// before anything is sealed with it.
func (r *restore) keys(ctx context.Context, chunk []draft) error {
	tenants := make(map[journal.TenantID]struct{})
	for i := range chunk {
		tenants[chunk[i].identity.Tenant] = struct{}{}
	}
	list := slices.Collect(maps.Keys(tenants))
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(restoreKeys, len(list)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(list)); i = next.Add(1) - 1 {
				if _, _, err := r.e.o.Vault.Key(ctx, list[i]); err != nil {
					errs[i] = fmt.Errorf("tenant key: %w", unreachable(err))
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
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
			r.tellRestored(ref, chunk[i].Created.Label)
			r.mu.Unlock()
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
