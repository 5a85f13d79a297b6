package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// RestoreOptions say what Restore measures.
type RestoreOptions struct {
	Sessions int
	Rounds   int          // interleaved rounds, after one that warms up
	Node     string       // folder whose node_modules has n8n-mcp
	Step     func(string) // told what is under way; not nil
}

// The ways of restoring, in the order of the rounds.
const (
	WaySnapshot = "dormouse, snapshot"
	WayChunks   = "bare read of its chunks"
	WayFold     = "fold of the whole stream"
	WayFile     = "one JSON file, into a map"
	WayTake     = "take a snapshot, fsynced"
	WayVerify   = "read it again and verify"
)

// RestoreRow is what one way took: medians over the rounds.
type RestoreRow struct {
	Way       string        `json:"way"`
	Took      time.Duration `json:"took"`
	CPU       time.Duration `json:"cpu"`
	PerSecond float64       `json:"sessionsPerSecond"`
	OfChunks  float64       `json:"ofBareRead,omitempty"` // time over that of the bare read
}

// RestoreResult is what Restore measured.
type RestoreResult struct {
	Sessions int          `json:"sessions"`
	Bytes    int64        `json:"snapshotBytes"`
	Heap     float64      `json:"heapBytesPerSession"` // of the state that was restored
	Rows     []RestoreRow `json:"rows"`
	Imports  []RestoreRow `json:"imports"` // of ImportSessions sessions
	// How long the fold of a batch of 100 accesses took, alone and while snapshots were taken; and the freeze itself.
	Fold   Sample        `json:"fold"`
	During Sample        `json:"foldDuringSnapshots"`
	Froze  time.Duration `json:"froze"`
	// Requests over HTTP, alone and while snapshots were taken.
	Beside BesideResult `json:"requests"`
}

// restoring is what the ways share.
type restoring struct {
	o        RestoreOptions
	scratch  *scratch
	journal  *jetstream.Journal
	store    *jetstream.Snapshots
	keys     *seal.Keyring
	opener   *seal.BatchOpener
	sealer   *seal.Chunks
	state    *replay.State
	manifest *snapshot.Manifest
	file     string
	redis    *saved // nil where there is none
}

// Restore measures taking a snapshot of that many dormant sessions and restoring them, beside other ways.
func Restore(ctx context.Context, o RestoreOptions) (out RestoreResult, err error) {
	s, err := newScratch(SyncAlways)
	if err != nil {
		return out, err
	}
	defer s.close()
	r := &restoring{o: o, scratch: s}
	o.Step(fmt.Sprintf("restore: journaling %d sessions", o.Sessions))
	if err := r.prepare(ctx); err != nil {
		return out, err
	}
	if out.Rows, err = r.measure(ctx); err != nil {
		return out, err
	}
	out.Sessions, out.Bytes = o.Sessions, r.manifest.Bytes
	if out.Heap, err = r.heap(ctx); err != nil {
		return out, err
	}
	o.Step("restore: bringing in an export")
	if out.Imports, err = r.imports(ctx); err != nil {
		return out, err
	}
	o.Step("restore: folding while snapshots are taken")
	if err := r.stalls(ctx, &out); err != nil {
		return out, err
	}
	o.Step("restore: requests while snapshots are taken")
	s.close()
	out.Beside, err = o.beside(ctx)
	return out, err
}

// measure runs all ways, round by round.
func (r *restoring) measure(ctx context.Context) (rows []RestoreRow, err error) {
	within := func(run func(context.Context) error) func(context.Context) (Sample, error) {
		return func(ctx context.Context) (Sample, error) { return timed(func() error { return run(ctx) }) }
	}
	ways := []struct {
		name string
		run  func(context.Context) (Sample, error)
	}{
		{WayTake, r.take},
		{WayVerify, within(r.verify)},
		{WayChunks, within(r.chunks)},
		{WaySnapshot, within(r.load)},
		{WayFold, within(r.fold)},
		{WayFile, within(r.json)},
	}
	bareRead := 2
	if r.redis != nil {
		ways = append(ways, struct {
			name string
			run  func(context.Context) (Sample, error)
		}{WayRedisRestart, r.redis.restart})
	}
	samples := make([][]Sample, len(ways))
	for round := range r.o.Rounds + 1 {
		r.o.Step(fmt.Sprintf("restore: round %d of %d", round, r.o.Rounds))
		for i, w := range ways {
			runtime.GC()
			sample, err := w.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			if round > 0 { // the first one warms up
				samples[i] = append(samples[i], sample)
			}
		}
	}
	took := func(s Sample) time.Duration { return s.Elapsed }
	bare := Median(samples[bareRead], took)
	for i, w := range ways {
		t := Median(samples[i], took)
		rows = append(rows, RestoreRow{
			Way: w.name, Took: t, CPU: Median(samples[i], func(s Sample) time.Duration { return s.CPU }),
			PerSecond: float64(r.o.Sessions) / t.Seconds(), OfChunks: float64(t) / float64(bare),
		})
	}
	return rows, nil
}

func timed(run func() error) (Sample, error) {
	cpu, begin := processCPU(), time.Now()
	err := run()
	return Sample{Elapsed: time.Since(begin), CPU: processCPU() - cpu}, err
}

// prepare fills a journal, folds it and writes the JSON file of the rival.
func (r *restoring) prepare(ctx context.Context) (err error) {
	if r.journal, err = r.scratch.journal(ctx, "bench"); err != nil {
		return err
	}
	if r.store, err = r.journal.OpenSnapshots(ctx, 1, true); err != nil {
		return err
	}
	keys := seal.GenerateKeyring()
	r.keys = keys
	r.opener, r.sealer = seal.NewBatchOpener(keys), seal.NewChunks(keys)
	m, err := newMinter(ctx, keys, r.journal.Keys())
	if err != nil {
		return err
	}
	if _, err := newLoad(m, false).fill(ctx, r.journal, keys, r.o.Sessions, 500); err != nil {
		return err
	}
	if r.state, err = r.folded(ctx); err != nil {
		return err
	}
	r.redis, err = saveRedis(ctx, r.scratch.dir, r.o.Sessions)
	if errors.Is(err, errAbsent) {
		r.o.Step("left out: " + err.Error())
	} else if err != nil {
		return err
	}
	r.file = filepath.Join(r.scratch.dir, "sessions.json")
	f, err := os.Create(r.file)
	if err != nil {
		return err
	}
	all := make([]replay.Session, 0, r.state.Len())
	for s := range r.state.All() {
		all = append(all, s)
	}
	return errors.Join(json.NewEncoder(f).Encode(all), f.Close())
}

func (r *restoring) folded(ctx context.Context) (*replay.State, error) {
	return replay.Fold(ctx, replay.FoldOptions{Source: r.journal, Opener: r.opener})
}

func (r *restoring) take(ctx context.Context) (s Sample, err error) {
	if r.manifest != nil {
		if err := r.store.Delete(ctx, r.manifest.ID); err != nil {
			return s, err
		}
	}
	return timed(func() error {
		r.manifest, err = snapshot.Write(ctx, r.store, r.sealer, r.state.Freeze(), journal.InstantOf(time.Now()))
		return err
	})
}

func (r *restoring) verify(ctx context.Context) error {
	return snapshot.Verify(ctx, r.store, r.sealer, r.manifest)
}

func (r *restoring) chunks(ctx context.Context) error {
	n := 0
	err := r.store.Chunks(ctx, r.manifest.ID, func([]byte) error { n++; return nil })
	if n != r.manifest.Chunks {
		return errors.Join(err, fmt.Errorf("%d chunks", n))
	}
	return err
}

func (r *restoring) load(ctx context.Context) error {
	s, err := snapshot.Load(ctx, r.store, r.sealer, r.manifest, nil)
	if err == nil && s.Len() != r.o.Sessions {
		err = fmt.Errorf("%d sessions", s.Len())
	}
	return err
}

func (r *restoring) fold(ctx context.Context) error {
	_, err := r.folded(ctx)
	return err
}

func (r *restoring) json(context.Context) error {
	data, err := os.ReadFile(r.file)
	if err != nil {
		return err
	}
	var all []replay.Session
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	byRef := make(map[journal.Ref]*replay.Session, len(all))
	for i := range all {
		byRef[all[i].Ref] = &all[i]
	}
	return nil
}

// heap is what a restored session takes, all tables included.
func (r *restoring) heap(ctx context.Context) (float64, error) {
	s, err := snapshot.Load(ctx, r.store, r.sealer, r.manifest, nil)
	if err != nil {
		return 0, err
	}
	n := s.Len()
	with := heapInUse()
	runtime.KeepAlive(s)
	s = nil
	return float64(with-heapInUse()) / float64(n), nil
}

// heapInUse collects what the server's caches let go of, too: they take seconds for it.
func heapInUse() int64 {
	var m runtime.MemStats
	for last := int64(math.MaxInt64); ; time.Sleep(time.Second) {
		runtime.GC()
		runtime.ReadMemStats(&m)
		now := int64(m.HeapAlloc)
		if last-now < 1<<20 {
			return now
		}
		last = now
	}
}

// stalls folds batches of accesses, alone and while a snapshot is taken, and notes how long each took.
func (r *restoring) stalls(ctx context.Context, out *RestoreResult) error {
	var refs []journal.Ref
	refs = r.state.AppendRefs(refs)
	w := journal.NewWriterID()
	h := journal.Header{Journal: r.journal.ID(), Writer: w}
	n := 0
	batch := func() (time.Duration, error) {
		at := r.state.Now() + 1
		events := make([]journal.Event, 100)
		for i := range events {
			n++
			events[i] = access(refs[scatter(n)%uint64(len(refs))], n, at)
		}
		h.Number++
		h.Count = uint32(len(events))
		m := journal.Message{Seq: r.state.Seq() + 1, Time: at, Data: h.Writer[:]}
		begin := time.Now()
		err := r.state.Apply(m, &journal.Batch{Header: h, Events: events})
		h.Previous = journal.DigestOf(m.Data)
		return time.Since(begin), err
	}
	sample := func(until func() bool) (all []time.Duration, err error) {
		for !until() && err == nil {
			var took time.Duration
			took, err = batch()
			all = append(all, took)
			time.Sleep(200 * time.Microsecond) // as a gateway that is not quite busy
		}
		return all, err
	}
	end := time.Now().Add(time.Second)
	alone, err := sample(func() bool { return time.Now().After(end) })
	if err != nil {
		return err
	}
	begin := time.Now()
	f := r.state.Freeze()
	out.Froze = time.Since(begin)
	var done atomic.Bool
	failed := make(chan error, 1)
	go func() {
		m, err := snapshot.Write(ctx, r.store, r.sealer, f, journal.InstantOf(time.Now()))
		if err == nil {
			err = r.store.Delete(ctx, m.ID)
		}
		done.Store(true)
		failed <- err
	}()
	during, err := sample(done.Load)
	out.Fold, out.During = Sample{}.WithLatencies(alone), Sample{}.WithLatencies(during)
	return errors.Join(err, <-failed)
}
