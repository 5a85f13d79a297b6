package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// TravelOptions says from where to travel.
type TravelOptions struct {
	Source replay.Source
	Opener replay.Opener
	// State, if not nil, is a state that lies before the point, from a snapshot. Travel folds on in it.
	State *replay.State
	// Losses are the accepted losses, all of them.
	Losses []journal.Loss
}

// Travel is At from a snapshot: it folds from there, so it can go back further than the stream alone, and is
// quicker. Its errors are those of At.
func Travel(ctx context.Context, o TravelOptions, p Point) (*replay.State, error) {
	if (p.Seq == 0) == (p.Time == 0) {
		return nil, errors.New("time travel: want either a sequence or a time")
	}
	if s := o.State; s != nil && !p.Reached(s.Seq(), s.Now()) {
		return nil, fmt.Errorf("time travel: the snapshot at %d lies behind the point", s.Seq())
	}
	s, err := replay.Fold(ctx, replay.FoldOptions{Source: o.Source, Opener: o.Opener, State: o.State, Until: p.passed, Losses: o.Losses})
	if err != nil {
		return nil, fmt.Errorf("time travel: %w", err)
	}
	if s.Seq() < p.Seq {
		return nil, fmt.Errorf("time travel: message %d: %w: the last is %d", p.Seq, journal.ErrNoMessage, s.Seq())
	}
	return s, nil
}

// Reached reports whether a state at that sequence and journal time is not beyond the point.
func (p Point) Reached(seq journal.Seq, now journal.Instant) bool {
	if p.Seq != 0 {
		return seq <= p.Seq
	}
	return now <= p.Time
}
