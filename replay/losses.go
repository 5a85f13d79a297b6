package replay

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// losses is what accepted losses mean for a reader. The zero value is none. It never changes: with replaces.
type losses struct {
	list []journal.Loss // by number, as they were given
	// holes are the messages to pass over: in order, apart from one another.
	holes []span
	// breaks are what holes and changes interrupt: neither chains nor bases are compared across them.
	breaks []breach
}

// span is a range of sequences, both inclusive.
type span struct{ from, to journal.Seq }

// breach is a span, and the last batch whose writer may have folded what was there before.
type breach struct {
	span

	hole   bool
	number uint32
	last   journal.Seq
}

// with returns the losses and some more.
func (l *losses) with(more []journal.Loss) losses {
	list := append(slices.Clone(l.list), more...)
	slices.SortStableFunc(list, func(a, b journal.Loss) int { return cmp.Compare(a.Number, b.Number) })
	out := losses{list: list}
	for i, x := range list {
		b, left := clip(x, list[i+1:])
		if x.Kind == journal.LossTail || !left {
			continue
		}
		out.breaks = append(out.breaks, b)
		if x.Kind == journal.LossHole {
			out.holes = append(out.holes, b.span)
		}
	}
	out.holes = merge(out.holes)
	return out
}

// clip takes away what tails that were lost later have taken with them: its sequences are used again.
func clip(x journal.Loss, later []journal.Loss) (b breach, left bool) {
	b = breach{span: span{x.From, x.To}, hole: x.Kind == journal.LossHole, number: x.Number, last: x.Last}
	for _, y := range later {
		if y.Kind == journal.LossTail {
			b.to, b.last = min(b.to, y.From-1), min(b.last, y.From-1)
		}
	}
	return b, b.from <= b.to
}

func merge(spans []span) (out []span) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, s := range spans {
		if n := len(out); n > 0 && s.from <= out[n-1].to+1 {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// hole returns the hole that seq is in.
func (l *losses) hole(seq journal.Seq) (span, bool) {
	i, _ := slices.BinarySearchFunc(l.holes, seq, func(s span, seq journal.Seq) int { return cmp.Compare(s.to, seq) })
	if i < len(l.holes) && l.holes[i].from <= seq {
		return l.holes[i], true
	}
	return span{}, false
}

// past returns the last sequence of the hole that begins behind after, or after itself.
func (l *losses) past(after journal.Seq) journal.Seq {
	if h, ok := l.hole(after + 1); ok {
		return h.to
	}
	return after
}

// lastRead returns the last message that is read of a stream that ends at last: one that is in no hole.
func (l *losses) lastRead(last journal.Seq) journal.Seq {
	if h, ok := l.hole(last); ok {
		return h.from - 1
	}
	return last
}

// has reports whether just these messages were accepted as lost.
func (l *losses) has(from, to journal.Seq) bool {
	return slices.ContainsFunc(l.list, func(x journal.Loss) bool { return x.From == from && x.To == to })
}

// next returns the first sequence of the first hole behind after; the highest of all if there is none.
func (l *losses) next(after journal.Seq) journal.Seq {
	for _, h := range l.holes {
		if h.from > after {
			return h.from
		}
	}
	return math.MaxUint64
}

// interruption is what a writer's chain may have suffered between two of its batches.
type interruption uint8

const (
	jumped  interruption = iota + 1 // messages are lost: the numbers may jump
	changed                         // messages are not what was written: anything may follow
)

// between says what was lost of these messages, both inclusive.
func (l *losses) between(from, to journal.Seq) (worst interruption) {
	for _, b := range l.breaks {
		switch {
		case b.from > to || b.to < from:
		case b.hole:
			worst = max(worst, jumped)
		default:
			worst = changed
		}
	}
	return worst
}

// unaware reports whether the writer of the batch at seq may have folded another history up to basis: what was lost
// since.
func (l *losses) unaware(basis, seq journal.Seq) bool {
	return slices.ContainsFunc(l.breaks, func(b breach) bool { return b.from <= basis && seq <= b.last })
}

// moved reports whether the batch at seq may once have stood behind basis.
func (l *losses) moved(basis, seq journal.Seq) bool {
	return slices.ContainsFunc(l.breaks, func(b breach) bool { return !b.hole && b.from <= basis && seq <= b.last })
}

// void reports whether a mark tells of messages that an accepted loss took from the end of the stream.
func (l *losses) void(m *journal.Mark) bool {
	return slices.ContainsFunc(l.list, func(x journal.Loss) bool {
		return x.Kind == journal.LossTail && x.Number > m.Losses && x.From <= m.Seq
	})
}

// comparable reports whether a mark's root is over the history as it is read now.
func (l *losses) comparable(m *journal.Mark) bool {
	known := uint32(0)
	if n := len(l.list); n > 0 {
		known = l.list[n-1].Number
	}
	return m.Losses <= known && !slices.ContainsFunc(l.breaks, func(b breach) bool {
		return b.number > m.Losses && b.from <= m.Seq
	})
}

// Accept makes the state pass over accepted losses. Those that it knows, from a snapshot for example, may be named
// again. Call it before the first Apply, or with holes that lie behind Seq: what is folded cannot be lost any more.
func (s *State) Accept(losses ...journal.Loss) error {
	var fresh []journal.Loss
	for _, l := range losses {
		if slices.Contains(s.losses.list, l) {
			continue
		}
		if l.From <= s.seq && l.Kind == journal.LossHole {
			return fmt.Errorf("loss %d: %w: messages %d to %d, but up to %d is folded", l.Number, ErrFolded, l.From, l.To, s.seq)
		}
		fresh = append(fresh, l)
	}
	s.losses = s.losses.with(fresh)
	return s.passHoles()
}

// passHoles gives lost messages their place in the history.
func (s *State) passHoles() error {
	if to := s.losses.past(s.seq); to > s.seq {
		if err := s.history.pass(s.seq, to); err != nil {
			return err
		}
		s.counters.lost += uint64(to - s.seq)
		s.seq = to
	}
	s.nextHole = s.losses.next(s.seq)
	return nil
}
