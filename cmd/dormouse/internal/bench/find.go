package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// FindOptions say what Find measures.
type FindOptions struct {
	Events int           // in the journal, one a millisecond
	Batch  int           // events in a batch
	Range  time.Duration // of the time range that is wanted
	Rounds int           // interleaved rounds, after one that warms up
	Step   func(string)  // told what is under way; not nil
}

// The ways of finding events, in the order of the rounds.
const (
	WaySkip   = "skipping by headers"
	WayDecode = "decoding everything"
	WayPass   = "bare read"
)

// FindRow is one cell: medians over its rounds.
type FindRow struct {
	Wanted  string        `json:"wanted"` // one session's events, or those of a time range
	Way     string        `json:"way"`
	Found   int           `json:"found"`
	Opened  int           `json:"opened"` // batches
	Batches int           `json:"batches"`
	Took    time.Duration `json:"took"`
	CPU     time.Duration `json:"cpu"`
	Saved   float64       `json:"timesFaster"` // than decoding everything
}

// Find measures reading one session's and one time range's events out of a long mixed journal.
func Find(ctx context.Context, o FindOptions) ([]FindRow, error) {
	s, err := newScratch(SyncDefault)
	if err != nil {
		return nil, err
	}
	defer s.close()
	o.Step(fmt.Sprintf("find: filling a journal with %d events", o.Events))
	j, err := s.journal(ctx, "dormouse")
	if err != nil {
		return nil, err
	}
	keys := seal.GenerateKeyring()
	m, err := newMinter(ctx, keys, j.Keys())
	if err != nil {
		return nil, err
	}
	f, err := newLoad(m, true).fill(ctx, j, keys, o.Events, o.Batch)
	if err != nil {
		return nil, err
	}
	if err := s.restart(); err != nil {
		return nil, err
	}
	since := f.first + journal.Instant(o.Events/2)
	until := since.Add(o.Range)
	var rows []FindRow
	for _, w := range []struct {
		what  string
		query audit.Query
	}{
		{"one session", audit.Query{Session: &f.session}},
		{"time range", audit.Query{Since: since, Until: until}},
	} {
		o.Step("find: " + w.what)
		cell, err := o.cell(ctx, s, f, w.query)
		if err != nil {
			return rows, err
		}
		for i := range cell {
			cell[i].Wanted = w.what
		}
		rows = append(rows, cell...)
	}
	return rows, nil
}

// counting counts how many batches are opened.
type counting struct {
	replay.Opener

	n atomic.Int64
}

// Open opens and counts.
func (c *counting) Open(data []byte) (*journal.Batch, error) {
	c.n.Add(1)
	return c.Opener.Open(data)
}

func (o FindOptions) cell(ctx context.Context, s *scratch, f *filled, q audit.Query) ([]FindRow, error) {
	opener := &counting{Opener: seal.NewBatchOpener(f.keys)}
	ways := []struct {
		name string
		find func() (int, error)
	}{
		{WaySkip, func() (int, error) { return find(ctx, s, opener, q, everything) }},
		{WayDecode, func() (int, error) { return find(ctx, s, opener, audit.Query{}, wantedBy(q)) }},
		{WayPass, func() (int, error) { return 0, f.read(ctx, s) }},
	}
	rows := make([]FindRow, len(ways))
	samples := make([][]Sample, len(ways))
	for round := range o.Rounds + 1 {
		for i, w := range ways {
			runtime.GC()
			opener.n.Store(0)
			cpu, begin := processCPU(), time.Now()
			found, err := w.find()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			rows[i] = FindRow{Way: w.name, Found: found, Opened: int(opener.n.Load()), Batches: f.messages}
			if round > 0 { // the first one warms up
				samples[i] = append(samples[i], Sample{Elapsed: time.Since(begin), CPU: processCPU() - cpu})
			}
		}
	}
	if rows[0].Found != rows[1].Found || rows[0].Found == 0 {
		return nil, fmt.Errorf("skipping found %d events, decoding everything %d", rows[0].Found, rows[1].Found)
	}
	for i := range rows {
		rows[i].Took = Median(samples[i], func(s Sample) time.Duration { return s.Elapsed })
		rows[i].CPU = Median(samples[i], func(s Sample) time.Duration { return s.CPU })
	}
	for i := range rows {
		rows[i].Saved = ratio(float64(rows[1].Took), float64(rows[i].Took))
	}
	return rows, nil
}

func find(ctx context.Context, s *scratch, op replay.Opener, q audit.Query, wanted func(*journal.Event) bool) (n int, err error) {
	j, err := s.journal(ctx, "dormouse")
	if err != nil {
		return 0, err
	}
	err = audit.History(ctx, j, op, q, func(e audit.Entry) error {
		if wanted(&e.Event) {
			n++
		}
		return nil
	})
	return n, err
}

func everything(*journal.Event) bool { return true }

// wantedBy picks by hand what a query would.
func wantedBy(q audit.Query) func(*journal.Event) bool {
	if q.Session != nil {
		return func(e *journal.Event) bool { return e.Ref == *q.Session }
	}
	return func(e *journal.Event) bool { return e.At >= q.Since && e.At < q.Until }
}
