package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Marks implements replay.MarkStore and replay.LossStore. Safe for concurrent use; the zero value is empty
// and ready.
type Marks struct {
	mu     sync.Mutex
	marks  map[journal.ReplicaID]journal.Mark
	losses []journal.Loss
}

// Marks returns the journal's store of marks and accepted losses.
func (j *Journal) Marks() *Marks { return &j.marks }

// PutMark stores a replica's newest mark in place of the one before.
func (s *Marks) PutMark(ctx context.Context, m journal.Mark) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks == nil {
		s.marks = make(map[journal.ReplicaID]journal.Mark)
	}
	s.marks[m.Replica] = m
	return nil
}

// Marks returns every replica's newest mark, by sequence.
func (s *Marks) Marks(context.Context) ([]journal.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []journal.Mark
	for _, m := range s.marks {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b journal.Mark) int { return cmp.Compare(a.Seq, b.Seq) })
	return all, nil
}

// AddLoss records an accepted loss. It fails with journal.ErrLossExists if its number is taken.
func (s *Marks) AddLoss(ctx context.Context, l journal.Loss) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, taken := slices.BinarySearchFunc(s.losses, l, compareLosses)
	if taken {
		return journal.ErrLossExists
	}
	s.losses = slices.Insert(s.losses, at, l)
	return nil
}

// Losses returns the accepted losses by number.
func (s *Marks) Losses(context.Context) ([]journal.Loss, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.losses), nil
}

func compareLosses(a, b journal.Loss) int { return cmp.Compare(a.Number, b.Number) }
