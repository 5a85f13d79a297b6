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
	if int(b.Count) != len(b.Events) {
		return damage(m, &b.Header, fmt.Sprintf("holds %d events where its header says %d", len(b.Events), b.Count))
	}
	if len(b.Events) > maxIndex {
		return damage(m, &b.Header, fmt.Sprintf("holds %d events", len(b.Events)))
	}
	v, err := s.take(m, digest, &b.Header, stops(b))
	if err != nil {
		return err
	}
	switch v {
	case known:
	case repeated:
		s.refuseAll(b, RefusedRepeated, fn)
	case forgotten:
		s.refuseAll(b, RefusedWriter, fn)
	case next:
		s.foldAll(b, fn)
	}
	return s.passed()
}

// ApplyHeader takes the next message into the history alone, without its events: all that Apply checks of the
// history is checked, and needs no key. h is m's header. Its errors are those of Apply.
func (s *State) ApplyHeader(m journal.Message, h *journal.Header) error {
	if _, err := s.take(m, journal.DigestOf(m.Data), h, false); err != nil {
		return err
	}
	return s.passed()
}

// take checks a message and takes it into the history. Its events are not folded yet.
func (s *State) take(m journal.Message, digest journal.Digest, h *journal.Header, stops bool) (verdict, error) {
	if err := s.checkPlace(m, h); err != nil {
		return 0, err
	}
	if m.Seq <= s.seq {
		return known, nil
	}
	v, err := s.checkHistory(m, digest, h)
	if err != nil {
		return 0, err
	}
	if err := s.history.append(m.Seq, digest); err != nil {
		return 0, err
	}
	s.journal, s.seq = h.Journal, m.Seq
	s.advance(m.Time)
	s.counters.batches++
	if v == next {
		s.history.record(h, digest, s.seq, s.now, stops)
	}
	return v, nil
}

// passed is the end of an apply: lost messages that follow are passed over at once.
func (s *State) passed() error {
	if s.seq+1 < s.nextHole {
		return nil
	}
	return s.passHoles()
}

// checkPlace checks that the batch is this journal's next one, or one before.
func (s *State) checkPlace(m journal.Message, h *journal.Header) error {
	if s.journal != (journal.ID{}) && h.Journal != s.journal {
		return damage(m, h, fmt.Sprintf("belongs to journal %v, not to %v", h.Journal, s.journal))
	}
	if m.Seq > s.seq+1 {
		return &journal.GapError{After: s.seq, Next: m.Seq}
	}
	return nil
}

// checkHistory checks the writer's chain and what the writer had folded.
func (s *State) checkHistory(m journal.Message, digest journal.Digest, h *journal.Header) (verdict, error) {
	v, wrong := s.history.judge(h, digest, s.interruption(m, h))
	if wrong.what != "" {
		return 0, &DamageError{
			Seq: m.Seq, Writer: h.Writer, Number: h.Number, What: wrong.what,
			Since: min(wrong.since, m.Seq), Until: min(wrong.until, m.Seq), Whole: wrong.whole,
		}
	}
	if h.Basis.Seq < m.Seq {
		root, checked := s.history.rootAt(h.Basis.Seq, s.seq)
		if checked && root == h.Basis.Root {
			s.proven = max(s.proven, h.Basis.Seq)
			return v, nil
		}
		if !checked || s.losses.unaware(h.Basis.Seq, m.Seq) {
			return v, nil
		}
		return 0, s.elsewhere(m, h, fmt.Sprintf("its writer had folded another history up to message %d", h.Basis.Seq))
	}
	if s.losses.moved(h.Basis.Seq, m.Seq) {
		return v, nil
	}
	return 0, s.elsewhere(m, h, fmt.Sprintf("its writer had folded up to message %d, which the stream did not hold yet", h.Basis.Seq))
}

// interruption says what was lost since the writer's last batch.
func (s *State) interruption(m journal.Message, h *journal.Header) interruption {
	if len(s.losses.breaks) == 0 {
		return 0
	}
	var last journal.Seq
	if w := s.history.writers[h.Writer]; w != nil {
		last = w.seq
	}
	return s.losses.between(last+1, m.Seq)
}

// damage says that this very message is the wrong one.
func damage(m journal.Message, h *journal.Header, what string) error {
	return &DamageError{Seq: m.Seq, Writer: h.Writer, Number: h.Number, What: what, Since: m.Seq, Until: m.Seq}
}

// elsewhere says that something before this message is wrong, behind what is proven.
func (s *State) elsewhere(m journal.Message, h *journal.Header, what string) error {
	until := min(h.Basis.Seq, m.Seq)
	since := min(s.proven+1, until)
	return &DamageError{Seq: m.Seq, Writer: h.Writer, Number: h.Number, What: what, Since: since, Until: until, Whole: true}
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
	s.table.warm(b.Events)
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
