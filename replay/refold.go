package replay

import (
	"context"
	"fmt"
	"runtime"

	"github.com/dormouse-mcp/dormouse/journal"
)

// FoldOptions says what to fold, and how far.
type FoldOptions struct {
	Source Source
	Opener Opener

	// Losses are the accepted losses, all of them; what they name as lost is passed over.
	Losses []journal.Loss

	// State, if not nil, is where to go on, and what Fold returns. Nil begins before the first batch.
	State *State

	// Until, if not nil, is asked about each message before it is folded; true ends the fold in front of it.
	Until func(journal.Message) bool
}

// Fold folds a stream once, up to its present end or to where Until says, without following it. It fails
// as Follow does.
func Fold(ctx context.Context, o FoldOptions) (*State, error) {
	s := o.State
	if s == nil {
		s = NewState()
	}
	if err := s.Accept(o.Losses...); err != nil {
		return nil, fmt.Errorf("fold: %w", err)
	}
	src := Over(o.Source, o.Losses)
	bounds, err := Reach(ctx, src, s.Seq())
	if err != nil {
		return nil, fmt.Errorf("fold: %w", err)
	}
	if err := checkBounds(bounds, s); err != nil {
		return nil, fmt.Errorf("fold: %w", err)
	}
	last := s.losses.lastRead(bounds.Last)
	if last <= s.Seq() {
		return s, nil
	}
	p := startPipeline(o.Opener, runtime.GOMAXPROCS(0), s.applyAll)
	err = src.Read(ctx, s.Seq(), func(m journal.Message) error {
		if o.Until != nil && o.Until(m) {
			return journal.ErrStop
		}
		if err := p.push(m); err != nil {
			return err
		}
		if m.Seq >= last {
			return journal.ErrStop
		}
		return nil
	})
	if failed := p.finish(); failed != nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("fold: %w", err)
	}
	return s, nil
}

func (s *State) applyAll(items []opened) error {
	for i := range items {
		if err := items[i].err; err != nil {
			return err
		}
		if err := s.apply(items[i].message, items[i].digest, items[i].batch, nil); err != nil {
			return err
		}
	}
	return nil
}
