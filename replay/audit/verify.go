package audit

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// VerifyOptions says what to verify. Source must be set.
type VerifyOptions struct {
	Source replay.Source
	// Bounds are what the stream holds. Zero: the source is asked, until the stream is as long as the marks say, or is to
	// be believed that it is not; see replay.Reach.
	Bounds journal.Bounds
	// Opener opens the batches; nil checks headers alone, for which no key is needed.
	Opener replay.Opener
	// Journal, if not zero, is whose history it must be. Zero takes the first batch's word.
	Journal journal.ID
	// Losses are the accepted ones, Marks those of all replicas. Load them before the call.
	Losses []journal.Loss
	Marks  []journal.Mark
	// State, if not nil, is what a snapshot held: up to there messages may have been trimmed, and behind it bases and
	// roots can be checked all the same. Verify changes it. Nil: the stream must begin with message 1.
	State *replay.State
	// Trimmed is up to where messages may have been trimmed, by the word of a snapshot that could not be opened. It is
	// asked only if State is nil.
	Trimmed journal.Seq
	// CheckKeys, if not nil, looks for the tenants' keys that the folded state names and returns a fault for each that
	// is not as it must be. It is not called where headers alone are checked.
	CheckKeys func(context.Context, *replay.State) ([]Fault, error)
	// Progress, if not nil, is called now and then, never concurrently.
	Progress func(VerifyProgress)
}

// VerifyProgress tells how far a Verify has come.
type VerifyProgress struct {
	Seq    journal.Seq `json:"seq"`
	Last   journal.Seq `json:"last"`
	Faults int         `json:"faults"`
}

// Verify reads the whole stream as it is now and reports every place where it is not what was written. It goes on
// behind a fault, so that one report names them all; what can no longer be compared because of one is not another.
//
// It is what `serve --accept-loss` decides by: with the losses that the report proposes the history can be folded.
// Errors: those of the source; journal.ErrWrongKey or journal.ErrKeyMissing if no batch opens at all, which means the
// wrong keyring; the cause of ctx.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	bounds, err := o.reach(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v := &verifier{
		o: o, bounds: bounds, state: replay.NewState(), whole: true,
		writers: make(map[journal.WriterID]ending), orphans: make(map[journal.Ref]struct{}),
	}
	v.report = Report{First: bounds.First, Last: bounds.Last, HeadersOnly: o.Opener == nil, Faults: []Fault{}, Marks: len(o.Marks)}
	if err := v.begin(); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if err := v.read(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if v.o.State != nil && bounds.Last >= v.o.State.Seq() {
		if err := v.behindTrim(math.MaxUint64); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	v.ends()
	v.unproven()
	if err := v.keys(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return v.conclude(), nil
}

// reach returns what the stream holds.
func (o *VerifyOptions) reach(ctx context.Context) (journal.Bounds, error) {
	if o.Bounds != (journal.Bounds{}) {
		return o.Bounds, nil
	}
	highest, _ := replay.Highest(o.Marks, o.Losses)
	return replay.Reach(ctx, o.Source, highest.Seq)
}

// begin tells the state what is known to be lost.
func (v *verifier) begin() error {
	for i := range v.o.Losses {
		v.report.Accepted = append(v.report.Accepted, lostOf(&v.o.Losses[i]))
		v.number = max(v.number, v.o.Losses[i].Number)
	}
	if err := v.state.Accept(v.o.Losses...); err != nil {
		return err
	}
	v.tally.expect(v.o.Marks, v.o.Losses)
	if first := v.bounds.First; first > v.state.Seq()+1 {
		if err := v.beginsAt(first); err != nil {
			return err
		}
	}
	v.count()
	v.state.Expect(v.o.Marks...)
	return nil
}

// beginsAt handles a stream whose first messages are gone.
func (v *verifier) beginsAt(first journal.Seq) error {
	held := v.state.Seq()
	switch {
	case v.o.State != nil:
		held, v.trimmed = max(held, v.o.State.Seq()), true
		v.note("messages 1 to %d are trimmed; a snapshot holds what they led to", first-1)
	case v.o.Trimmed > 0:
		held, v.trimmed = max(held, v.o.Trimmed), true
		v.note("messages 1 to %d are trimmed; a snapshot says that it holds what they led to; roots are not compared", first-1)
	}
	if first-1 > held {
		v.fault(Fault{
			Kind: FaultBegins, From: held + 1, To: first - 1, Batches: uint64(first - 1 - held), Events: uint64(first - 1 - held),
			Detail: fmt.Sprintf("the stream begins with message %d", first),
		})
	}
	v.number++
	l := journal.Loss{Number: v.number, Kind: journal.LossHole, From: v.state.Seq() + 1, To: first - 1, Last: math.MaxUint64}
	v.accepted = append(v.accepted, l)
	return v.state.Accept(l)
}

func (v *verifier) note(format string, args ...any) {
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

// behindTrim goes over to the snapshot's state, which knows the history before it.
func (v *verifier) behindTrim(seq journal.Seq) error {
	s := v.o.State
	if !v.trimmed || s == nil || s == v.state || seq <= s.Seq() {
		return nil
	}
	held, had := s.Seq(), s.Stats().Events
	if err := s.Accept(v.o.Losses...); err != nil {
		return err
	}
	for _, l := range v.accepted {
		l.From = max(l.From, s.Seq()+1)
		l.Last = min(l.Last, v.bounds.Last)
		if l.From > l.To {
			continue
		}
		if err := s.Accept(l); err != nil {
			return err
		}
	}
	s.Expect(v.o.Marks...)
	v.state = s
	v.tally.from(held, had)
	v.count()
	return nil
}

// read walks through the stream, over its holes.
func (v *verifier) read(ctx context.Context) error {
	src := replay.Over(v.o.Source, v.o.Losses)
	end := replay.LastRead(v.bounds.Last, v.o.Losses)
	after := v.state.Seq()
	for after < end {
		err := src.Read(ctx, after, func(m journal.Message) error {
			after = min(m.Seq, end)
			if m.Seq > end {
				return journal.ErrStop
			}
			if err := v.take(m); err != nil {
				return err
			}
			if m.Seq == end {
				return journal.ErrStop
			}
			return nil
		})
		gap, isGap := errors.AsType[*journal.GapError](err)
		if err != nil && !isGap {
			return err
		}
		if err := v.flush(); err != nil {
			return err
		}
		if isGap {
			after = min(gap.Next-1, end)
			if err := v.missing(v.state.Seq()+1, after); err != nil {
				return err
			}
		}
	}
	return v.flush()
}

// ends compares the end of the stream with the marks.
func (v *verifier) ends() {
	m, ok := replay.Highest(v.o.Marks, v.o.Losses)
	if !ok || m.Seq <= v.bounds.Last {
		return
	}
	f := Fault{
		Kind: FaultEnds, From: v.bounds.Last + 1, To: m.Seq, Batches: uint64(m.Seq - v.bounds.Last), After: v.stored.Time(), Before: m.When.Time(),
		Detail: fmt.Sprintf("the stream ends before them, but replica %s had folded them at %v", m.Replica, m.When),
	}
	f.Events = f.Batches
	v.fault(f)
	v.tally.marks = slices.DeleteFunc(v.tally.marks, func(x journal.Mark) bool { return x.Seq != m.Seq })
	if n := len(v.tally.marks); n > 0 && (!v.trimmed || v.state == v.o.State) {
		v.compare(&v.tally.marks[n-1])
		return
	}
	if n := uint64(v.state.Len()); m.Sessions > n && !v.report.HeadersOnly {
		v.report.Faults[len(v.report.Faults)-1].Sessions = m.Sessions - n
	}
}

// keys looks at the tenants' keys, and whether accepted losses were journaled.
func (v *verifier) keys(ctx context.Context) error {
	if v.report.HeadersOnly {
		return nil
	}
	v.untold()
	if v.o.CheckKeys == nil {
		return nil
	}
	faults, err := v.o.CheckKeys(ctx, v.state)
	v.report.Faults = append(v.report.Faults, faults...)
	return err
}

// untold finds records of losses that nobody with the keyring has accepted. An event may have gone with a tail that was
// lost later.
func (v *verifier) untold() {
	for i := range v.o.Losses {
		l := &v.o.Losses[i]
		later := false
		for _, x := range v.o.Losses[i+1:] {
			later = later || x.Kind == journal.LossTail
		}
		if !later && !v.trimmed && !v.state.Told(l.From, l.To) {
			v.fault(Fault{
				Kind: FaultUntold, From: l.From, To: l.To,
				Detail: fmt.Sprintf("accepted as lost by replica %s at %v, says record %d, and no event says so", l.Replica, l.When, l.Number),
			})
		}
	}
}

func (v *verifier) conclude() *Report {
	r := &v.report
	slices.SortStableFunc(r.Faults, func(a, b Fault) int {
		return cmp.Compare(a.From-1, b.From-1) // tenant keys, which have none, last
	})
	id := v.state.Journal()
	if id == (journal.ID{}) {
		id = v.o.Journal
	}
	root := v.state.Root()
	r.Journal, r.Root, r.Sessions, r.Orphans = id.String(), hex.EncodeToString(root[:]), v.state.Len(), uint64(len(v.orphans))
	r.Verdict = r.verdict()
	return r
}

// progressEvery is the least time between two calls of Progress.
const progressEvery = 100 * time.Millisecond
