package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Journal is what every journal offers.
type Journal interface {
	commit.Port
	Stream
	ID() journal.ID
	Trim(ctx context.Context, before journal.Seq) error
}

// Harness is one empty journal under test, and how to disturb it.
type Harness struct {
	Journal Journal
	Keys    seal.KeyStore
	// Remove makes a hole in the stream.
	Remove func(ctx context.Context, seq journal.Seq) error
	// Restart ends and starts again what stores the journal. The harness it returns has the same one.
	// Nil where nothing survives.
	Restart func(t *testing.T) Harness
	// Depose lets a leader answer that knows no message behind last and stores nothing, Elect the true one again. Nil
	// where nobody can.
	Depose func(last journal.Seq)
	Elect  func()
}

// underTest is a journal, and the test that a law fails.
type underTest struct {
	Harness

	t *testing.T
}

// Run holds a journal against the laws of commit.Port, replay.Source and seal.KeyStore, alone and under a
// committer. fresh is called for each law.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	t.Helper()
	for _, law := range []struct {
		name string
		hold func(underTest)
	}{
		{"publish in order", publishInOrder},
		{"publish expects the last sequence", publishExpects},
		{"publish has one winner", publishHasOneWinner},
		{"publish keeps its own copy", publishCopies},
		{"last and bounds", lastAndBounds},
		{"an ended context", endedContext},
		{"read from anywhere", readFromAnywhere},
		{"read follows", readFollows},
		{"read stops promptly", readStops},
		{"read reports a gap", readReportsGap},
		{"read reports a trim", readReportsTrim},
		{"read reports a stream that is shorter", readReportsShorter},
		{"readers do not disturb each other", manyReaders},
		{"large batches", largeBatches},
		{"keys", keysLaw},
		{"keys have one creator", keysHaveOneCreator},
		{"committers share a stream", committersShare},
		{"a committer outlives a trim", committerOutlivesTrim},
		{"a committer meets its own batch again", committerMeetsItself},
		{"a foreign batch ends a committer", foreignEndsCommitter},
		{"a committer doubts an old leader", committerDoubtsAnOldLeader},
		{"all is there after a restart", survivesRestart},
	} {
		t.Run(law.name, func(t *testing.T) { law.hold(underTest{Harness: fresh(t), t: t}) })
	}
}

// patience bounds what must happen soon, on however busy a machine.
const patience = 2 * time.Minute

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// payload returns bytes that tell n.
func payload(n int) []byte { return fmt.Appendf(nil, "message %d", n) }

// fill publishes n messages of one new writer.
func fill(t *testing.T, j Journal, n int) journal.WriterID {
	t.Helper()
	w := journal.NewWriterID()
	var last journal.Seq
	for i := range n {
		seq, err := j.Publish(within(t), w, last, payload(i+1))
		must(t, err)
		last = seq
	}
	return w
}

func publishInOrder(u underTest) {
	t, h := u.t, u.Harness
	start := journal.InstantOf(time.Now())
	fill(t, h.Journal, 20)
	messages, err := ReadAll(within(t), h.Journal, 0)
	must(t, err)
	if len(messages) != 20 {
		t.Fatalf("%d messages", len(messages))
	}
	var before journal.Instant
	for i, m := range messages {
		if m.Seq != journal.Seq(i+1) || !bytes.Equal(m.Data, payload(i+1)) {
			t.Errorf("message %d: sequence %d, %q", i+1, m.Seq, m.Data)
		}
		if m.Time < before || m.Time < start || m.Time > journal.InstantOf(time.Now()) {
			t.Errorf("message %d: stored at %v, the one before at %v", i+1, m.Time, before)
		}
		before = m.Time
	}
}

func publishExpects(u underTest) {
	t, h := u.t, u.Harness
	ctx, j, w := within(t), h.Journal, journal.NewWriterID()
	conflict := func(expected journal.Seq) {
		t.Helper()
		if seq, err := j.Publish(ctx, w, expected, payload(0)); !errors.Is(err, journal.ErrConflict) {
			t.Errorf("expecting %d: stored at %d, %v", expected, seq, err)
		}
	}
	conflict(1)
	_, err := j.Publish(ctx, w, 0, payload(1))
	must(t, err)
	conflict(0)
	conflict(2)
	fill(t, j, 1) // another subject's sequences do not count
	conflict(2)
	seq, err := j.Publish(ctx, w, 1, payload(3))
	if err != nil || seq != 3 {
		t.Errorf("stored at %d, %v", seq, err)
	}
	b, err := j.Bounds(ctx)
	if want := (journal.Bounds{First: 1, Last: 3}); err != nil || b != want {
		t.Errorf("bounds %v, %v: a conflict stored something", b, err)
	}
}

func publishHasOneWinner(u underTest) {
	t, h := u.t, u.Harness
	w := journal.NewWriterID()
	var last journal.Seq
	for range 10 {
		const rivals = 8
		type outcome struct {
			seq journal.Seq
			err error
		}
		outcomes, expected := make(chan outcome, rivals), last
		for i := range rivals {
			go func() {
				seq, err := h.Journal.Publish(within(t), w, expected, payload(i))
				outcomes <- outcome{seq, err}
			}()
		}
		winners := 0
		for range rivals {
			o := <-outcomes
			switch {
			case o.err == nil:
				winners++
				last = o.seq
			case !errors.Is(o.err, journal.ErrConflict):
				t.Errorf("a loser: %v", o.err)
			}
		}
		if winners != 1 {
			t.Fatalf("%d winners expecting %d", winners, expected)
		}
	}
}

func publishCopies(u underTest) {
	t, h := u.t, u.Harness
	data := payload(1)
	w := journal.NewWriterID()
	_, err := h.Journal.Publish(within(t), w, 0, data)
	must(t, err)
	copy(data, "changed")
	m, err := h.Journal.Last(within(t), w)
	must(t, err)
	if !bytes.Equal(m.Data, payload(1)) {
		t.Errorf("stored %q", m.Data)
	}
}

func lastAndBounds(u underTest) {
	t, h := u.t, u.Harness
	ctx, j := within(t), h.Journal
	if b, err := j.Bounds(ctx); err != nil || b != (journal.Bounds{First: 1}) {
		t.Errorf("an empty stream holds %v, %v", b, err)
	}
	if _, err := j.Last(ctx, journal.NewWriterID()); !errors.Is(err, journal.ErrNoMessage) {
		t.Errorf("last of nothing: %v", err)
	}
	v, w := fill(t, j, 3), fill(t, j, 2)
	for writer, want := range map[journal.WriterID]journal.Message{
		v: {Seq: 3, Data: payload(3)},
		w: {Seq: 5, Data: payload(2)},
	} {
		if m, err := j.Last(ctx, writer); err != nil || m.Seq != want.Seq || !bytes.Equal(m.Data, want.Data) || m.Time == 0 {
			t.Errorf("last: %v, %v", m, err)
		}
	}
	must(t, j.Trim(ctx, 4))
	must(t, j.Trim(ctx, 2)) // is no trim
	must(t, j.Trim(ctx, 0)) // neither
	if b, err := j.Bounds(ctx); err != nil || b != (journal.Bounds{First: 4, Last: 5}) {
		t.Errorf("after a trim: %v, %v", b, err)
	}
	if _, err := j.Last(ctx, v); !errors.Is(err, journal.ErrNoMessage) {
		t.Errorf("last of what was trimmed: %v", err)
	}
	must(t, j.Trim(ctx, 6))
	if b, err := j.Bounds(ctx); err != nil || b != (journal.Bounds{First: 6, Last: 5}) {
		t.Errorf("after trimming everything: %v, %v", b, err)
	}
}

func endedContext(u underTest) {
	t, h := u.t, u.Harness
	ctx, cancel := context.WithCancelCause(within(t))
	why := errors.New("enough")
	cancel(why)
	if _, err := h.Journal.Bounds(ctx); !errors.Is(err, why) {
		t.Errorf("bounds: %v", err)
	}
	if _, err := h.Journal.Last(ctx, journal.NewWriterID()); !errors.Is(err, why) {
		t.Errorf("last: %v", err)
	}
	if err := h.Journal.Read(ctx, 0, func(journal.Message) error { return nil }); !errors.Is(err, why) {
		t.Errorf("read: %v", err)
	}
}
