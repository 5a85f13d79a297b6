package replay

import (
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Apply folds the next batch; b is what m holds. A message that was folded before is passed over, so
// that a redelivery changes nothing. Any error is journal.ErrDamaged, names the place, and leaves
// the state as it was.
func (s *State) Apply(m journal.Message, b *journal.Batch) error {
	return s.apply(m, journal.DigestOf(m.Data), b, nil)
}

// ApplyFunc is Apply, and calls fn with the verdict on each event. fn is not called for a redelivery.
func (s *State) ApplyFunc(m journal.Message, b *journal.Batch, fn func(index int, why Refusal)) error {
	return s.apply(m, journal.DigestOf(m.Data), b, fn)
}

func (s *State) apply(m journal.Message, digest journal.Digest, b *journal.Batch, fn func(int, Refusal)) error {
	if err := s.checkPlace(m, b); err != nil {
		return err
	}
	if m.Seq <= s.seq {
		return nil
	}
	v, err := s.checkHistory(m, digest, b)
	if err != nil {
		return err
	}
	if err := s.history.append(m.Seq, digest); err != nil {
		return err
	}
	s.journal, s.seq = b.Journal, m.Seq
	s.advance(m.Time)
	s.counters.batches++
	switch v {
	case repeated:
		s.refuseAll(b, RefusedRepeated, fn)
	case forgotten:
		s.refuseAll(b, RefusedWriter, fn)
	case next:
		s.history.record(b, digest, s.seq, s.now)
		s.foldAll(b, fn)
	}
	return nil
}

// checkPlace checks that the batch is this journal's next one, or one before.
func (s *State) checkPlace(m journal.Message, b *journal.Batch) error {
	if s.seq > 0 && b.Journal != s.journal {
		return damage(m, b, fmt.Sprintf("belongs to journal %v, not to %v", b.Journal, s.journal))
	}
	if m.Seq > s.seq+1 {
		return &journal.GapError{After: s.seq, Next: m.Seq}
	}
	if int(b.Count) != len(b.Events) {
		return damage(m, b, fmt.Sprintf("holds %d events where its header says %d", len(b.Events), b.Count))
	}
	return nil
}

// checkHistory checks the writer's chain and what the writer had folded.
func (s *State) checkHistory(m journal.Message, digest journal.Digest, b *journal.Batch) (verdict, error) {
	v, wrong := s.history.judge(&b.Header, digest)
	if wrong != "" {
		return 0, damage(m, b, wrong)
	}
	if b.Basis.Seq >= m.Seq {
		return 0, damage(m, b, fmt.Sprintf("its writer had folded up to message %d, which the stream did not hold yet", b.Basis.Seq))
	}
	if root, known := s.history.rootAt(b.Basis.Seq, s.seq); known && root != b.Basis.Root {
		return 0, damage(m, b, fmt.Sprintf("its writer had folded another history up to message %d", b.Basis.Seq))
	}
	return v, nil
}

func damage(m journal.Message, b *journal.Batch, what string) error {
	return &DamageError{Seq: m.Seq, Writer: b.Writer, Number: b.Number, What: what}
}

// advance moves journal time and does what is due by it.
func (s *State) advance(to journal.Instant) {
	if to <= s.now {
		return
	}
	before := s.now
	s.now = to
	s.ended.prune(to)
	s.table.advance(to)
	if day(before) != day(to) {
		s.history.forget(to)
	}
}

func day(i journal.Instant) int64 { return int64(i) / (24 * time.Hour).Milliseconds() }

func (s *State) foldAll(b *journal.Batch, fn func(int, Refusal)) {
	for i := range b.Events {
		e := &b.Events[i]
		why := s.fold(e, journal.Position{Seq: s.seq, Index: uint32(i)})
		s.counters.count(e.Kind, why)
		if fn != nil {
			fn(i, why)
		}
	}
}

func (s *State) refuseAll(b *journal.Batch, why Refusal, fn func(int, Refusal)) {
	for i := range b.Events {
		s.counters.count(b.Events[i].Kind, why)
		if fn != nil {
			fn(i, why)
		}
	}
}
