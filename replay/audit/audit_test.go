package audit_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counting counts what it opens.
type counting struct{ opened int }

func (c *counting) Open(data []byte) (*journal.Batch, error) {
	c.opened++
	return replaytest.Opener{}.Open(data)
}

func read(ctx context.Context, src replay.Source, op replay.Opener, q audit.Query) (out []audit.Entry, err error) {
	err = audit.History(ctx, src, op, q, func(e audit.Entry) error {
		out = append(out, e)
		return nil
	})
	return out, err
}

// Whatever is asked for, History gives what filtering everything would, with the fold's own verdicts.
func TestLawHistoryIsTheFilteredLog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		messages := replaytest.History(rt)
		stream := new(replaytest.Stream)
		stream.Load(messages...)
		q := drawQuery(rt, messages)
		var want []audit.Entry
		s := replay.NewState()
		for _, m := range messages {
			want = append(want, naive(rt, s, m, q)...)
		}
		got, err := read(t.Context(), stream, replaytest.Opener{}, q)
		if err != nil {
			rt.Fatalf("history: %v", err)
		}
		if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			rt.Fatalf("%+v\ngot  %+v\nwant %+v", q, got, want)
		}
	})
}

func drawQuery(t *rapid.T, messages []journal.Message) (q audit.Query) {
	if rapid.Bool().Draw(t, "one session") {
		ref := replaytest.Ref(rapid.IntRange(0, 6).Draw(t, "session"))
		q.Session = &ref
	}
	when := func(label string) journal.Instant {
		if rapid.Bool().Draw(t, label+" open") {
			return 0
		}
		m := rapid.SampledFrom(messages).Draw(t, label)
		return m.Time.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "near")) * time.Millisecond)
	}
	q.Since, q.Until = when("since"), when("until")
	q.Kinds = rapid.SampledFrom([][]journal.Kind{nil, {journal.KindCreated}, {journal.KindClosed, journal.KindTenantErased}}).Draw(t, "kinds")
	q.Verdicts = rapid.Bool().Draw(t, "verdicts")
	if rapid.Bool().Draw(t, "go on") {
		m := rapid.SampledFrom(messages).Draw(t, "after")
		q.After = journal.Position{Seq: m.Seq, Index: uint32(rapid.IntRange(0, 6).Draw(t, "index"))}
	}
	return q
}

func naive(t *rapid.T, s *replay.State, m journal.Message, q audit.Query) (out []audit.Entry) {
	b, err := replaytest.Opener{}.Open(m.Data)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	err = s.ApplyFunc(m, b, func(i int, why replay.Refusal) {
		e := audit.Entry{
			Position: journal.Position{Seq: m.Seq, Index: uint32(i)}, Stored: m.Time, Writer: b.Writer, Event: b.Events[i],
		}
		if q.Verdicts {
			e.Judged, e.Accepted, e.Refusal = true, why == "", why
		}
		wanted := q.Session == nil || e.Event.Ref == *q.Session
		wanted = wanted && (q.Since == 0 || e.Event.At >= q.Since) && (q.Until == 0 || e.Event.At < q.Until)
		wanted = wanted && e.Position.Compare(q.After) > 0
		kind := len(q.Kinds) == 0
		for _, k := range q.Kinds {
			kind = kind || k == e.Event.Kind
		}
		if wanted && kind {
			out = append(out, e)
		}
	})
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return out
}

// sample is 100 batches of one event, a minute apart; batch i is about session i%10.
func sample() *replaytest.Stream {
	stream := new(replaytest.Stream)
	w := replaytest.Writer{Journal: journal.ID{1}, ID: journal.WriterID{1}}
	for i := range 100 {
		at := replaytest.Start.Add(time.Duration(i) * time.Minute)
		stream.Put(at, w.Batch(journal.Basis{}, event(i, at)))
	}
	return stream
}

func event(i int, at journal.Instant) journal.Event {
	e := journal.Event{Kind: journal.KindTouched, Ref: replaytest.Ref(i % 10), At: at}
	if i < 10 {
		e.Kind = journal.KindCreated
		e.Created = &journal.Created{Source: journal.SourceClient, Timeout: time.Hour, CreatedAt: at, LastAccess: at}
	}
	return e
}

func TestHistoryOpensOnlyWhatItMust(t *testing.T) {
	stream, ref := sample(), replaytest.Ref(3)
	for name, c := range map[string]struct {
		query      audit.Query
		found, max int
	}{
		"all":      {audit.Query{}, 100, 100},
		"session":  {audit.Query{Session: &ref}, 10, 20},
		"an hour":  {audit.Query{Since: replaytest.Start.Add(time.Minute), Until: replaytest.Start.Add(11 * time.Minute)}, 10, 10},
		"the rest": {audit.Query{After: journal.Position{Seq: 90}}, 10, 11},
		"verdicts": {audit.Query{After: journal.Position{Seq: 90}, Verdicts: true}, 10, 100},
	} {
		op := new(counting)
		got, err := read(t.Context(), stream, op, c.query)
		if err != nil || len(got) != c.found || op.opened > c.max {
			t.Errorf("%s: %d events of %d opened batches: %v", name, len(got), op.opened, err)
		}
	}
}

func TestHistoryFollows(t *testing.T) {
	stream := sample()
	why := errors.New("seen enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	w := replaytest.Writer{Journal: journal.ID{1}, ID: journal.WriterID{2}}
	seen := 0
	err := audit.History(ctx, stream, replaytest.Opener{}, audit.Query{Follow: true, After: journal.Position{Seq: 98}}, func(e audit.Entry) error {
		if seen++; e.Position.Seq == 100 {
			stream.Put(e.Stored, w.Batch(journal.Basis{}, event(50, e.Stored)))
		}
		if e.Position.Seq == 101 {
			cancel(why)
		}
		return nil
	})
	if !errors.Is(err, why) || seen != 3 {
		t.Fatalf("%d events, %v", seen, err)
	}
}

func TestHistoryEnds(t *testing.T) {
	mine := errors.New("mine")
	for give, want := range map[error]error{mine: mine, journal.ErrStop: nil} {
		seen := 0
		err := audit.History(t.Context(), sample(), replaytest.Opener{}, audit.Query{}, func(audit.Entry) error {
			seen++
			return give
		})
		if seen != 1 || !errors.Is(err, want) {
			t.Errorf("fn gave %v: %d events, %v", give, seen, err)
		}
	}
	if got, err := read(t.Context(), new(replaytest.Stream), replaytest.Opener{}, audit.Query{}); err != nil || len(got) > 0 {
		t.Errorf("empty stream: %d events, %v", len(got), err)
	}
}

func TestHistoryOfATrimmedStream(t *testing.T) {
	stream := sample()
	stream.Trim(51)
	if got, err := read(t.Context(), stream, replaytest.Opener{}, audit.Query{}); err != nil || len(got) != 50 {
		t.Errorf("%d events, %v", len(got), err)
	}
	if _, err := read(t.Context(), stream, replaytest.Opener{}, audit.Query{Verdicts: true}); !errors.Is(err, replay.ErrNeedsSnapshot) {
		t.Errorf("verdicts: %v", err)
	}
	if _, err := audit.At(t.Context(), stream, replaytest.Opener{}, audit.Point{Seq: 60}); !errors.Is(err, replay.ErrNeedsSnapshot) {
		t.Errorf("time travel: %v", err)
	}
}

func TestHistoryNamesAHole(t *testing.T) {
	stream := sample()
	stream.Lose(40)
	got, err := read(t.Context(), stream, replaytest.Opener{}, audit.Query{})
	if !errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), "40") || len(got) != 39 {
		t.Fatalf("%d events, %v", len(got), err)
	}
}

func TestAt(t *testing.T) {
	stream := sample()
	start := replaytest.Start
	for _, c := range []struct {
		point    audit.Point
		seq      journal.Seq
		sessions int
	}{
		{audit.Point{Seq: 1}, 1, 1},
		{audit.Point{Seq: 7}, 7, 7},
		{audit.Point{Seq: 100}, 100, 10},
		{audit.Point{Time: start.Add(-time.Millisecond)}, 0, 0},
		{audit.Point{Time: start}, 1, 1},
		{audit.Point{Time: start.Add(5*time.Minute - time.Millisecond)}, 5, 5},
		{audit.Point{Time: start.Add(5 * time.Minute)}, 6, 6},
		{audit.Point{Time: start.Add(1000 * time.Hour)}, 100, 10},
	} {
		s, err := audit.At(t.Context(), stream, replaytest.Opener{}, c.point)
		if err != nil || s.Seq() != c.seq || s.Len() != c.sessions {
			t.Errorf("%+v: at %d with %d sessions, %v", c.point, s.Seq(), s.Len(), err)
		}
	}
	if _, err := audit.At(t.Context(), stream, replaytest.Opener{}, audit.Point{Seq: 101}); !errors.Is(err, journal.ErrNoMessage) {
		t.Errorf("beyond the end: %v", err)
	}
	for _, p := range []audit.Point{{}, {Seq: 1, Time: 1}} {
		if _, err := audit.At(t.Context(), stream, replaytest.Opener{}, p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
