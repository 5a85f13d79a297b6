package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Point is a place in the past: exactly one of its fields is set.
type Point struct {
	Seq  journal.Seq     // after this message
	Time journal.Instant // at this journal time: after the last message that was stored by then
}

// At returns the state as it was at the point. It folds the journal from its first message, so it fails
// with replay.ErrNeedsSnapshot if that is gone, and with journal.ErrNoMessage for a sequence that the
// stream has not reached. A time before the first message gives the empty state, one in the future
// the present. What was accepted as lost is passed over.
func At(ctx context.Context, src replay.Source, op replay.Opener, p Point, accepted ...journal.Loss) (*replay.State, error) {
	if (p.Seq == 0) == (p.Time == 0) {
		return nil, errors.New("time travel: want either a sequence or a time")
	}
	s, err := replay.Fold(ctx, replay.FoldOptions{Source: src, Opener: op, Until: p.passed, Losses: accepted})
	if err != nil {
		return nil, fmt.Errorf("time travel: %w", err)
	}
	if s.Seq() < p.Seq {
		return nil, fmt.Errorf("time travel: message %d: %w: the last is %d", p.Seq, journal.ErrNoMessage, s.Seq())
	}
	return s, nil
}

// passed reports whether the message lies behind the point. Journal time only grows, so the first one
// that was stored later ends the past.
func (p Point) passed(m journal.Message) bool {
	if p.Seq != 0 {
		return m.Seq > p.Seq
	}
	return m.Time > p.Time
}
