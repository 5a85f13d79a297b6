package replay

import (
	"context"
	"errors"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Over returns src without the messages that accepted losses name as holes, whether they are missing or not.
// Everything else that is missing is an error, as before. A State that is to fold it must Accept the same losses.
func Over(src Source, accepted []journal.Loss) Source {
	var none losses
	l := none.with(accepted)
	if len(l.holes) == 0 {
		return src
	}
	return &over{src: src, losses: l}
}

type over struct {
	src    Source
	losses losses
}

// Bounds implements Source. A hole at the beginning counts as there.
func (o *over) Bounds(ctx context.Context) (journal.Bounds, error) {
	b, err := o.src.Bounds(ctx)
	if err != nil {
		return b, err
	}
	for b.First > 1 {
		h, ok := o.losses.hole(b.First - 1)
		if !ok {
			break
		}
		b.First = h.from
	}
	return b, nil
}

// Patience implements Source.
func (o *over) Patience() time.Duration { return o.src.Patience() }

// Read implements Source.
func (o *over) Read(ctx context.Context, after journal.Seq, fn func(journal.Message) error) error {
	for {
		after = o.losses.past(after)
		err := o.src.Read(ctx, after, func(m journal.Message) error {
			after = m.Seq
			if _, lost := o.losses.hole(m.Seq); lost {
				return nil
			}
			return fn(m)
		})
		gap, ok := errors.AsType[*journal.GapError](err)
		if !ok || !o.covers(gap) {
			return err
		}
		after = gap.Next - 1
	}
}

func (o *over) covers(gap *journal.GapError) bool {
	h, ok := o.losses.hole(gap.After + 1)
	return ok && h.to >= gap.Next-1
}

// LastRead returns the last message that Over reads of a stream that ends at last.
func LastRead(last journal.Seq, accepted []journal.Loss) journal.Seq {
	var none losses
	l := none.with(accepted)
	return l.lastRead(last)
}

// Outside returns what of the messages from to to, both inclusive, is in no hole that was accepted.
func Outside(from, to journal.Seq, accepted []journal.Loss) (ranges [][2]journal.Seq) {
	var none losses
	l := none.with(accepted)
	for from <= to {
		from = l.past(from-1) + 1
		end := min(to, l.next(from)-1)
		if from <= end {
			ranges = append(ranges, [2]journal.Seq{from, end})
		}
		from = end + 1
	}
	return ranges
}
