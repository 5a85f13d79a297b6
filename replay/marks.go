package replay

import (
	"cmp"
	"context"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// MarkStore keeps each replica's newest high-water mark, outside the stream of batches. Safe for concurrent use.
type MarkStore interface {
	// Marks returns every replica's newest mark.
	Marks(ctx context.Context) ([]journal.Mark, error)
	// PutMark stores a replica's newest mark, durably.
	PutMark(ctx context.Context, m journal.Mark) error
}

// LossStore keeps the losses that operators accepted, outside the stream of batches, for ever. Safe for
// concurrent use.
type LossStore interface {
	// Losses returns all of them by number.
	Losses(ctx context.Context) ([]journal.Loss, error)
	// AddLoss records one, durably. It fails with journal.ErrLossExists if its number is taken.
	AddLoss(ctx context.Context, l journal.Loss) error
}

// Expect makes CheckMarks compare the history with what replicas had folded once. Call it after Accept. Marks
// at or before Seq, those of other journals and those whose history an accepted loss has changed are not compared.
func (s *State) Expect(marks ...journal.Mark) {
	for _, m := range marks {
		if m.Seq > s.seq && !s.losses.void(&m) {
			s.marks = append(s.marks, m)
		}
	}
	slices.SortStableFunc(s.marks, func(a, b journal.Mark) int { return cmp.Compare(a.Seq, b.Seq) })
}

// CheckMarks is called after each Apply. Its error, a *MarkError, says that the history is another one than what
// a replica had folded up to the message just applied.
func (s *State) CheckMarks() error {
	for len(s.marks) > 0 && s.marks[0].Seq <= s.seq {
		m := s.marks[0]
		s.marks = s.marks[1:]
		if m.Seq != s.seq || m.Journal != s.journal || !s.losses.comparable(&m) {
			continue
		}
		if m.Root != s.history.root {
			return &MarkError{Mark: m, Since: s.proven}
		}
		s.proven = m.Seq
	}
	return nil
}

// Proven returns the last message up to which a mark or a later batch has confirmed the history, its order included.
func (s *State) Proven() journal.Seq { return s.proven }

// Highest returns the highest mark that the stream must reach, if there is any.
func Highest(marks []journal.Mark, accepted []journal.Loss) (highest journal.Mark, ok bool) {
	var none losses
	l := none.with(accepted)
	for _, m := range marks {
		if m.Seq > highest.Seq && !l.void(&m) {
			highest, ok = m, true
		}
	}
	return highest, ok
}

// awaitEnd returns the stream's bounds, once it reaches every mark and what the state holds.
func awaitEnd(ctx context.Context, o *FollowOptions) (journal.Bounds, error) {
	need := o.State.Seq()
	m, marked := Highest(o.Marks, o.Losses)
	if marked {
		need = max(need, m.Seq)
	}
	b, err := Reach(ctx, o.Source, need)
	if err == nil && marked && m.Seq > b.Last {
		err = &ShrunkError{Last: b.Last, Folded: m.Seq, Mark: &m}
	}
	return b, err
}
