package audit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// tally counts what is lost by what the marks say was there: a hole tells nothing of itself.
type tally struct {
	marks []journal.Mark // those to come, in order
	had   uint64         // events that were read so far
	at    journal.Seq    // of the mark before
	short int64          // events that were missing there
	lost  map[int]uint64 // events lost in a fault, by its index
}

// expect takes the marks that count what is still here. Those that an accepted loss lies before do not: who
// wrote them may have had what was lost, from a snapshot.
func (t *tally) expect(marks []journal.Mark, accepted []journal.Loss) {
	t.lost = make(map[int]uint64)
	for _, m := range marks {
		if !slices.ContainsFunc(accepted, func(l journal.Loss) bool { return l.From <= m.Seq }) {
			t.marks = append(t.marks, m)
		}
	}
	slices.SortStableFunc(t.marks, func(a, b journal.Mark) int { return cmp.Compare(a.Seq, b.Seq) })
}

// from begins anew with a state that knows what was before it.
func (t *tally) from(seq journal.Seq, had uint64) {
	t.at, t.had, t.short = seq, had, 0
	t.marks = slices.DeleteFunc(t.marks, func(m journal.Mark) bool { return m.Seq <= seq })
}

// count compares what was read with the marks that were just reached. It is called whenever the state has moved.
func (v *verifier) count() {
	t := &v.tally
	for len(t.marks) > 0 && t.marks[0].Seq <= v.state.Seq() {
		m := t.marks[0]
		t.marks = t.marks[1:]
		if m.Seq > t.at && (!v.trimmed || v.state == v.o.State) {
			v.compare(&m)
		}
	}
}

// compare tells the fault between the mark before and this one how much is lost in it; where there are several of
// them, the report.
func (v *verifier) compare(m *journal.Mark) {
	t := &v.tally
	short := int64(m.Events) - int64(t.had)
	events, since := max(short-t.short, 0), t.at
	t.short, t.at = short, m.Seq
	gone := int64(0)
	if !v.report.HeadersOnly {
		gone = max(int64(m.Sessions)-int64(v.state.Len()), 0)
	}
	var between []int
	for i := range v.report.Faults {
		f := &v.report.Faults[i]
		if f.Kind == FaultChanged {
			return // what is there instead may count for more or less
		}
		if f.From <= m.Seq && f.To > since {
			between = append(between, i)
		}
	}
	switch {
	case len(between) == 0:
	case len(between) == 1 && len(v.report.Faults) == 1:
		v.report.Faults[0].Sessions = max(v.report.Faults[0].Sessions, uint64(gone))
		fallthrough
	case len(between) == 1:
		i := between[0]
		t.lost[i] += uint64(events)
		v.report.Faults[i].Events = max(v.report.Faults[i].Events, t.lost[i])
		if gone > 0 && i > 0 {
			v.noteGone(m, gone)
		}
	default:
		if events > 0 {
			v.note("between messages %d and %d, %s are lost, by the mark of replica %s", since+1, m.Seq, plural(uint64(events), "event"), m.Replica)
		}
		if gone > 0 {
			v.noteGone(m, gone)
		}
	}
}

func (v *verifier) noteGone(m *journal.Mark, gone int64) {
	text := fmt.Sprintf("after message %d, %s fewer than replica %s had are there: that many are lost, at least", m.Seq, plural(uint64(gone), "session"), m.Replica)
	if n := len(v.report.Notes); n > 0 && v.gone == n {
		v.report.Notes[n-1] = text // of an earlier mark
		return
	}
	v.note("%s", text)
	v.gone = len(v.report.Notes)
}
