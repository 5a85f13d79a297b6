package audit

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// A group of messages is opened at once, by several goroutines.
const (
	groupMessages = 256
	groupBytes    = 8 << 20
	// A keyring under which none of so many batches opens is the wrong one.
	hopeless = 64
	// maxOrphans bounds what is remembered of sessions without a beginning.
	maxOrphans = 1 << 20
)

// verifier folds a stream and accepts, on a state that nobody else sees, whatever is wrong with it.
type verifier struct {
	o        VerifyOptions
	bounds   journal.Bounds
	state    *replay.State
	report   Report
	accepted []journal.Loss              // what the faults made the state accept
	number   uint32                      // of the last loss that the state was told
	writers  map[journal.WriterID]ending // the last batch seen of each
	orphans  map[journal.Ref]struct{}    // sessions of which later events tell
	repeats  []journal.Seq               // messages that repeat a batch
	open     []int                       // faults that wait for the time of the next message
	stored   journal.Instant             // when the last message that was all right was stored
	whole    bool                        // no fault so far
	trimmed  bool
	opened   int // batches that opened
	refused  int // batches that did not
	tally    tally
	gone     int // the note of sessions that are gone, counted from 1; zero: there is none

	group    []item
	bytes    int
	reported time.Time
}

type ending struct {
	number uint64
	seq    journal.Seq
}

// item is a message with what is in it.
type item struct {
	message journal.Message
	header  journal.Header
	batch   *journal.Batch // nil if it was not opened
	err     error
}

// take takes the next message.
func (v *verifier) take(m journal.Message) error {
	v.group = append(v.group, item{message: m})
	v.bytes += len(m.Data)
	if len(v.group) < groupMessages && v.bytes < groupBytes {
		return nil
	}
	return v.flush()
}

// flush folds what was taken.
func (v *verifier) flush() error {
	v.openAll()
	for i := range v.group {
		if err := v.fold(&v.group[i]); err != nil {
			return err
		}
	}
	clear(v.group)
	v.group, v.bytes = v.group[:0], 0
	v.progress()
	return nil
}

func (v *verifier) progress() {
	if v.o.Progress != nil && time.Since(v.reported) >= progressEvery {
		v.reported = time.Now()
		v.o.Progress(VerifyProgress{Seq: v.state.Seq(), Last: v.bounds.Last, Faults: len(v.report.Faults)})
	}
}

func (v *verifier) openAll() {
	n := min(runtime.GOMAXPROCS(0), len(v.group))
	var wg sync.WaitGroup
	for w := range n {
		wg.Go(func() {
			for i := w; i < len(v.group); i += n {
				v.group[i].open(v.o.Opener)
			}
		})
	}
	wg.Wait()
}

func (it *item) open(op replay.Opener) {
	it.header, _, it.err = journal.ParseHeader(it.message.Data)
	if it.err == nil && op != nil {
		it.batch, it.err = op.Open(it.message.Data)
	}
}

// fold takes in one message, or reports what is wrong with it and goes on.
func (v *verifier) fold(it *item) error {
	if it.err != nil {
		return v.unreadable(it)
	}
	v.opened++
	if err := v.behindTrim(it.message.Seq); err != nil {
		return err
	}
	for range 3 {
		err := v.apply(it)
		d, damaged := errors.AsType[*replay.DamageError](err)
		switch {
		case err == nil:
			v.good(it)
			v.count()
			return v.marks()
		case !damaged:
			return err
		case !d.Whole:
			return v.lose(it, misplaced(v, it), d.What)
		}
		if err := v.changed(it, d); err != nil {
			return err
		}
	}
	return v.lose(it, FaultMisplaced, "it does not fit in any way")
}

func misplaced(v *verifier, it *item) FaultKind {
	if id := v.id(); id != (journal.ID{}) && it.header.Journal != id {
		return FaultForeign
	}
	return FaultMisplaced
}

func (v *verifier) id() journal.ID {
	if v.o.Journal != (journal.ID{}) {
		return v.o.Journal
	}
	return v.state.Journal()
}

func (v *verifier) apply(it *item) error {
	if id := v.id(); id != (journal.ID{}) && it.header.Journal != id {
		return &replay.DamageError{
			Seq: it.message.Seq, Writer: it.header.Writer, Number: it.header.Number, Since: it.message.Seq,
			What: fmt.Sprintf("belongs to journal %v, not to %v", it.header.Journal, id),
		}
	}
	if it.batch == nil {
		return v.state.ApplyHeader(it.message, &it.header)
	}
	searching := (!v.trimmed || v.state == v.o.State) && (len(v.report.Faults) > 0 || len(v.o.Losses) > 0)
	return v.state.ApplyFunc(it.message, it.batch, func(i int, why replay.Refusal) {
		if searching && why == replay.RefusedUnknown && len(v.orphans) < maxOrphans {
			v.orphans[it.batch.Events[i].Ref] = struct{}{}
		}
	})
}

// good notes a message that is all right.
func (v *verifier) good(it *item) {
	h := &it.header
	was := v.writers[h.Writer]
	if h.Number > was.number+1 {
		v.attribute(h.Writer, was, it.message.Seq, h.Number)
	}
	if h.Number <= was.number {
		v.repeats = append(v.repeats, it.message.Seq)
	} else {
		v.writers[h.Writer] = ending{h.Number, it.message.Seq}
	}
	v.report.Batches++
	v.report.Events += uint64(h.Count)
	v.tally.had += uint64(h.Count)
	for _, i := range v.open {
		v.report.Faults[i].Before = it.message.Time.Time()
	}
	v.open = v.open[:0]
	v.stored = max(v.stored, it.message.Time)
}

// attribute tells the holes between a writer's two batches that it lost some there.
func (v *verifier) attribute(w journal.WriterID, was ending, seq journal.Seq, number uint64) {
	for i := range v.report.Faults {
		f := &v.report.Faults[i]
		if (f.Kind == FaultMissing || f.Kind == FaultBegins) && f.From > was.seq && f.To < seq {
			f.Writers = append(f.Writers, Batches{Writer: w.String(), From: was.number + 1, To: number - 1})
		}
	}
}

// marks compares the history with the marks at the message that was just taken in.
func (v *verifier) marks() error {
	for {
		err := v.state.CheckMarks()
		m, wrong := errors.AsType[*replay.MarkError](err)
		if !wrong {
			return err
		}
		from := min(m.Since+1, m.Mark.Seq)
		f := Fault{Kind: FaultChanged, From: from, To: m.Mark.Seq, Since: from, Noticed: m.Mark.Seq, Detail: fmt.Sprintf(
			"some of it is not what replica %s had folded at %v", m.Mark.Replica, m.Mark.When)}
		if seq, ok := v.repeated(from, m.Mark.Seq); ok {
			f.From, f.To, f.Detail = seq, seq, "an old batch stands where another one was: the history "+f.Detail[len("some of it "):]
		}
		v.fault(f)
		if err := v.accept(journal.LossChange, from, m.Mark.Seq); err != nil {
			return err
		}
	}
}

// missing reports a hole in the stream.
func (v *verifier) missing(from, to journal.Seq) error {
	for _, r := range replay.Outside(from, to, v.o.Losses) {
		n := uint64(r[1] - r[0] + 1)
		v.fault(Fault{Kind: FaultMissing, From: r[0], To: r[1], After: v.stored.Time(), Batches: n, Events: n, Detail: "missing from the stream"})
		v.open = append(v.open, len(v.report.Faults)-1)
		if err := v.accept(journal.LossHole, max(r[0], v.state.Seq()+1), r[1]); err != nil {
			return err
		}
		v.count()
	}
	return nil
}

// unreadable reports a message that does not open.
func (v *verifier) unreadable(it *item) error {
	v.refused++
	if wrongKeyring(it.err) && v.opened == 0 && v.refused >= min(hopeless, int(v.bounds.Last-v.bounds.First+1)) {
		return fmt.Errorf("none of the first %d batches opens: %w", v.refused, it.err)
	}
	return v.lose(it, FaultUnreadable, it.err.Error())
}

func wrongKeyring(err error) bool {
	return errors.Is(err, journal.ErrWrongKey) || errors.Is(err, journal.ErrKeyMissing)
}

// lose reports a message that cannot be taken in. What its header says is not to be relied on.
func (v *verifier) lose(it *item, kind FaultKind, what string) error {
	seq := it.message.Seq
	f := Fault{
		Kind: kind, From: seq, To: seq, After: v.stored.Time(), Batches: 1, Events: max(1, uint64(it.header.Count)), Detail: what,
	}
	if it.header.Number > 0 {
		f.Writers = []Batches{{Writer: it.header.Writer.String(), From: it.header.Number, To: it.header.Number}}
		if was := v.writers[it.header.Writer]; kind == FaultUnreadable && it.header.Number == was.number+1 {
			v.writers[it.header.Writer] = ending{it.header.Number, seq}
		}
	}
	v.fault(f)
	v.open = append(v.open, len(v.report.Faults)-1)
	if err := v.accept(journal.LossHole, seq, seq); err != nil {
		return err
	}
	v.count()
	return nil
}

// changed reports that something before a message is not what was written.
func (v *verifier) changed(it *item, d *replay.DamageError) error {
	f := Fault{
		Kind: FaultChanged, From: d.Since, To: d.Until, Since: d.Since, Noticed: d.Seq, Before: it.message.Time.Time(),
		Writers: []Batches{{Writer: d.Writer.String(), From: d.Number, To: d.Number}}, Detail: d.What,
	}
	if d.Since < d.Seq {
		f.To = min(f.To, d.Seq-1)
	}
	if seq, ok := v.repeated(f.From, f.To); ok {
		f.From, f.To = seq, seq
		f.Detail = fmt.Sprintf("an old batch stands where another one was: by message %d, %s", d.Seq, f.Detail)
	}
	v.fault(f)
	return v.accept(journal.LossChange, d.Since, d.Seq)
}

// unproven reports the messages that repeat a batch where nothing confirms that they were written so: no committer
// stores a batch twice, so another one stood there.
func (v *verifier) unproven() {
	for _, seq := range v.repeats {
		if seq <= v.state.Proven() || slices.ContainsFunc(v.report.Faults, func(f Fault) bool { return f.From <= seq && seq <= f.To }) {
			continue
		}
		v.fault(Fault{Kind: FaultChanged, From: seq, To: seq, Detail: "an old batch stands where another one was"})
	}
	if v.whole || v.trimmed || v.state.Proven() >= v.state.Seq() {
		return
	}
	if v.state.Proven() == 0 {
		v.note("the order of batches could not be compared with what their writers had folded")
		return
	}
	v.note("behind message %d, the order of batches could not be compared with what their writers had folded", v.state.Proven())
}

// repeated returns the one message in a range that repeats a batch.
func (v *verifier) repeated(from, to journal.Seq) (at journal.Seq, ok bool) {
	for _, seq := range v.repeats {
		if seq < from || seq > to {
			continue
		}
		if ok {
			return 0, false
		}
		at, ok = seq, true
	}
	return at, ok
}

func (v *verifier) accept(kind journal.LossKind, from, to journal.Seq) error {
	v.number++
	l := journal.Loss{Number: v.number, Kind: kind, From: from, To: to, Last: v.bounds.Last}
	v.accepted = append(v.accepted, l)
	return v.state.Accept(l)
}

// fault adds a fault. One that goes on where the one before ended, of the same kind and cause, is joined to it.
func (v *verifier) fault(f Fault) {
	v.whole = false
	if n := len(v.report.Faults); n > 0 && f.Kind == FaultUnreadable {
		if last := &v.report.Faults[n-1]; last.Kind == f.Kind && last.To+1 == f.From && last.Tenant == "" {
			last.To, last.Batches, last.Events = f.To, last.Batches+f.Batches, last.Events+f.Events
			last.Writers = joinBatches(last.Writers, f.Writers)
			return
		}
	}
	v.report.Faults = append(v.report.Faults, f)
}

func joinBatches(list, more []Batches) []Batches {
	for _, b := range more {
		i := slices.IndexFunc(list, func(x Batches) bool { return x.Writer == b.Writer && x.To+1 == b.From })
		if i < 0 {
			list = append(list, b)
			continue
		}
		list[i].To = b.To
	}
	return list
}
