package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// trim removes the batches that both snapshots hold the outcome of and that are older than the retention.
func (k *Keeper) trim(ctx context.Context, pair []Manifest) error {
	newest, older := &pair[0], &pair[1]
	bounds, err := k.o.Stream.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	limit := newest.Now.Add(-k.o.Retention)
	// One message stays in any case: it says when the stream was last alive.
	before, err := k.firstSince(ctx, bounds.First, min(older.Seq+1, bounds.Last), limit)
	if _, gap := errors.AsType[*journal.GapError](err); gap {
		if now, failed := k.o.Stream.Bounds(ctx); failed == nil && now.First > bounds.First {
			return errOvertaken
		}
	}
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	if before <= bounds.First {
		return nil
	}
	// Nothing but these will tell what stood there: read both once more.
	for _, m := range []*Manifest{newest, older} {
		if err := k.prove(ctx, m); err != nil {
			return fmt.Errorf("trim: %w", err)
		}
	}
	if err := k.o.Stream.Trim(ctx, before); err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	k.o.Observer.StreamTrimmed(before)
	k.o.Logger.Info().Uint64("first", uint64(before)).Uint64("was", uint64(bounds.First)).Dur("retention", k.o.Retention).
		Stringer("snapshot", older.ID).Msg("the stream was trimmed; history and logs begin later now")
	return nil
}

// firstSince returns the first message in [from, to) that was stored at limit or later, or to. The stream's clock may
// go back a little; then a few more are kept, or a few less.
func (k *Keeper) firstSince(ctx context.Context, from, to journal.Seq, limit journal.Instant) (journal.Seq, error) {
	for from < to {
		middle := from + (to-from)/2
		at, err := k.stored(ctx, middle)
		if err != nil {
			return 0, err
		}
		if at < limit {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return to, nil
}

// stored returns when a message was stored.
func (k *Keeper) stored(ctx context.Context, seq journal.Seq) (at journal.Instant, err error) {
	err = k.o.Stream.Read(ctx, seq-1, func(m journal.Message) error {
		at = m.Time
		return journal.ErrStop
	})
	return at, err
}
