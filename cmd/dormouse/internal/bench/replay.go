package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// ReplayOptions say what Replay measures.
type ReplayOptions struct {
	Events int          // in each journal
	Batch  []int        // events in a batch
	Rounds int          // interleaved rounds, after one that warms up
	Step   func(string) // told what is under way; not nil
}

// The ways of reading a journal, in the order of the rounds.
const (
	WayReplay = "dormouse"          // read, open, decode, digest, fold
	WayRead   = "bare read"         // of the same messages
	WayJSON   = "one JSON an event" // read, decode, into a map: a tenth of the events
)

// jsonPart is how many times fewer events the rival reads, for it takes so much longer.
const jsonPart = 10

// ReplayRow is one cell: medians over its rounds.
type ReplayRow struct {
	Load      string        `json:"load"` // created, or mixed: 90 % accesses
	Batch     int           `json:"batch"`
	Way       string        `json:"way"`
	Events    int           `json:"events"`
	Took      time.Duration `json:"took"`
	PerSecond float64       `json:"perSecond"`
	CPU       time.Duration `json:"cpuPerEvent"` // the embedded server's included
	Bytes     float64       `json:"bytesPerEvent"`
	OfJSON    float64       `json:"ofJSON"` // throughput over one JSON message an event
}

// replayWay reads a journal once.
type replayWay struct {
	name   string
	events int
	bytes  int
	run    func(ctx context.Context, s *scratch) error
}

// Replay measures what a restart does: reading a journal from its first message until the state is folded.
// The server is started anew for each cell.
func Replay(ctx context.Context, o ReplayOptions) ([]ReplayRow, error) {
	var rows []ReplayRow
	for _, mixed := range []bool{false, true} {
		for _, batch := range o.Batch {
			o.Step(fmt.Sprintf("replay: %d %s events in batches of %d", o.Events, loadName(mixed), batch))
			cell, err := o.cell(ctx, mixed, batch)
			if err != nil {
				return rows, err
			}
			rows = append(rows, cell...)
		}
	}
	return rows, nil
}

func loadName(mixed bool) string {
	if mixed {
		return "mixed"
	}
	return "created"
}

func (o ReplayOptions) cell(ctx context.Context, mixed bool, batch int) ([]ReplayRow, error) {
	s, err := newScratch(SyncDefault)
	if err != nil {
		return nil, err
	}
	defer s.close()
	ways, err := o.prepare(ctx, s, mixed, batch)
	if err != nil {
		return nil, err
	}
	if err := s.restart(); err != nil {
		return nil, err
	}
	samples := make([][]Sample, len(ways))
	for round := range o.Rounds + 1 {
		for i, w := range ways {
			runtime.GC()
			sample, err := w.measure(ctx, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			if round > 0 { // the first one warms up
				samples[i] = append(samples[i], sample)
			}
		}
	}
	return replayRows(ways, samples, loadName(mixed), batch), nil
}

// prepare fills the journal and its rival.
func (o ReplayOptions) prepare(ctx context.Context, s *scratch, mixed bool, batch int) ([]replayWay, error) {
	j, err := s.journal(ctx, "dormouse")
	if err != nil {
		return nil, err
	}
	keys := seal.GenerateKeyring()
	m, err := newMinter(ctx, keys, j.Keys())
	if err != nil {
		return nil, err
	}
	f, err := newLoad(m, mixed).fill(ctx, j, keys, o.Events, batch)
	if err != nil {
		return nil, err
	}
	// The rival is read like a journal, so it gets the same stream and reader.
	if _, err := s.journal(ctx, "rival"); err != nil {
		return nil, err
	}
	client, err := js.New(s.nc, js.WithPublishAsyncMaxPending(1024))
	if err != nil {
		return nil, err
	}
	n := max(o.Events/jsonPart, 1)
	if err := newLoad(m, mixed).fillPlain(ctx, client, "rival.batch."+journal.NewWriterID().String(), n); err != nil {
		return nil, err
	}
	size, err := streamBytes(ctx, client, "RIVAL_BATCHES")
	if err != nil {
		return nil, err
	}
	return []replayWay{
		{WayReplay, f.events, f.bytes, f.replay},
		{WayRead, f.events, f.bytes, f.read},
		{WayJSON, n, size, func(ctx context.Context, s *scratch) error { return foldPlain(ctx, s, n) }},
	}, nil
}

func streamBytes(ctx context.Context, client js.JetStream, name string) (int, error) {
	stream, err := client.Stream(ctx, name)
	if err != nil {
		return 0, err
	}
	return int(stream.CachedInfo().State.Bytes), nil
}

func (w *replayWay) measure(ctx context.Context, s *scratch) (Sample, error) {
	cpu, begin := processCPU(), time.Now()
	if err := w.run(ctx, s); err != nil {
		return Sample{}, err
	}
	return Sample{Done: w.events, Elapsed: time.Since(begin), CPU: processCPU() - cpu}, nil
}

// replay restores the journal as a daemon does at its start.
func (f *filled) replay(ctx context.Context, s *scratch) error {
	j, err := s.journal(ctx, "dormouse")
	if err != nil {
		return err
	}
	follower, err := replay.Follow(ctx, replay.FollowOptions{Source: j, Opener: seal.NewBatchOpener(f.keys), Journal: j.ID()})
	if err != nil {
		return err
	}
	folded := uint64(0)
	follower.View(func(s *replay.State) {
		for _, n := range s.Stats().Accepted {
			folded += n
		}
	})
	if folded != uint64(f.events) {
		err = fmt.Errorf("%d of %d events were accepted", folded, f.events)
	}
	return errors.Join(err, follower.Close())
}

// read reads the same messages and looks at none.
func (f *filled) read(ctx context.Context, s *scratch) error {
	j, err := s.journal(ctx, "dormouse")
	if err != nil {
		return err
	}
	return readAll(ctx, j, f.messages, func([]byte) error { return nil })
}

func readAll(ctx context.Context, j *jetstream.Journal, n int, fn func([]byte) error) error {
	return j.Read(ctx, 0, func(m journal.Message) error {
		if err := fn(m.Data); err != nil {
			return err
		}
		if m.Seq == journal.Seq(n) {
			return journal.ErrStop
		}
		return nil
	})
}

// plainSession is what a map of JSON events would keep.
type plainSession struct {
	created plainEvent
	last    int64
	calls   int
}

func foldPlain(ctx context.Context, s *scratch, n int) error {
	j, err := s.journal(ctx, "rival")
	if err != nil {
		return err
	}
	sessions := map[string]*plainSession{}
	return readAll(ctx, j, n, func(data []byte) error {
		var e plainEvent
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		if e.Kind == journal.KindCreated.String() {
			sessions[e.Session] = &plainSession{created: e, last: e.At}
		} else if s := sessions[e.Session]; s != nil {
			s.last = e.At
			s.calls++
		}
		return nil
	})
}

func replayRows(ways []replayWay, samples [][]Sample, load string, batch int) []ReplayRow {
	rows := make([]ReplayRow, len(ways))
	var naive float64
	for i, w := range ways {
		rows[i] = ReplayRow{
			Load: load, Batch: batch, Way: w.name, Events: w.events, Bytes: ratio(float64(w.bytes), float64(w.events)),
			Took:      Median(samples[i], func(s Sample) time.Duration { return s.Elapsed }),
			PerSecond: Median(samples[i], Sample.PerSecond),
			CPU:       Median(samples[i], Sample.CPUPerRequest),
		}
		if w.name == WayJSON {
			rows[i].Batch, naive = 1, rows[i].PerSecond
		}
	}
	for i := range rows {
		rows[i].OfJSON = ratio(rows[i].PerSecond, naive)
	}
	return rows
}
