package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// What a fresh replica starts on.
const (
	WayEmpty      = "exec to ready, empty journal"
	WayWithout    = "exec to ready, by the whole stream"
	WayFromTaken  = "exec to ready, from a snapshot"
	WayChunksNATS = "bare read of its chunks"
)

// FreshRow is how long a replica with an empty folder took until it could serve all sessions: the median.
type FreshRow struct {
	Way      string          `json:"way"`
	Sessions int             `json:"sessions"`
	Took     time.Duration   `json:"took"`
	CPU      time.Duration   `json:"cpu,omitempty"` // of the replica alone
	All      []time.Duration `json:"all"`
}

// fresh measures how soon a new replica is ready.
func (r *replicas) fresh(ctx context.Context) (rows []FreshRow, err error) {
	s, err := newShared(r.cluster)
	if err != nil {
		return nil, err
	}
	defer s.close()
	// No replica is to take a snapshot by itself.
	flags := []string{"--max-sessions", fmt.Sprint(r.o.Sessions + 1000), "--snapshot-events", "1000000000", "--snapshot-batches", "1000000000", "--snapshot-every", "1000h"}
	empty, err := newFleet(r.folder, r.cluster, "empty", flags...)
	if err != nil {
		return nil, err
	}
	full, err := newFleet(r.folder, r.cluster, "full", flags...)
	if err != nil {
		return nil, err
	}
	if err := empty.warm(ctx); err != nil {
		return nil, err
	}
	r.o.Step(fmt.Sprintf("fresh replica: journaling %d sessions", r.o.Sessions))
	l, err := r.fillFleet(ctx, s, full)
	if err != nil {
		return nil, err
	}
	starts := func(f *fleet) func() (Sample, error) {
		return func() (Sample, error) { return f.freshStart(ctx) }
	}
	for _, w := range []struct {
		name     string
		sessions int
		before   func() error
		run      func() (Sample, error)
	}{
		{WayEmpty, 0, nil, starts(empty)},
		{WayWithout, r.o.Sessions, nil, starts(full)},
		{WayFromTaken, r.o.Sessions, func() error { return l.take(ctx) }, starts(full)},
		{WayChunksNATS, r.o.Sessions, nil, func() (Sample, error) { return timed(func() error { return l.read(ctx) }) }},
	} {
		r.o.Step("fresh replica: " + w.name)
		if w.before != nil {
			if err := w.before(); err != nil {
				return rows, fmt.Errorf("%s: %w", w.name, err)
			}
		}
		row, err := r.freshRow(w.name, w.sessions, w.run)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (r *replicas) freshRow(way string, sessions int, run func() (Sample, error)) (FreshRow, error) {
	row := FreshRow{Way: way, Sessions: sessions}
	var samples []Sample
	for range r.o.Rounds {
		s, err := run()
		if err != nil {
			return row, err
		}
		samples, row.All = append(samples, s), append(row.All, s.Elapsed)
	}
	slices.Sort(row.All)
	row.Took = Median(samples, func(s Sample) time.Duration { return s.Elapsed })
	row.CPU = Median(samples, func(s Sample) time.Duration { return s.CPU })
	return row, nil
}

// warm makes the fleet's journal.
func (f *fleet) warm(ctx context.Context) error {
	_, err := f.freshStart(ctx)
	return err
}

// freshStart starts one more replica, with a folder of its own, measures until it is ready, and kills it.
func (f *fleet) freshStart(ctx context.Context) (Sample, error) {
	m, err := f.add(ctx)
	if err != nil {
		return Sample{}, err
	}
	defer m.down()
	begin := time.Now()
	if err := m.up(ctx); err != nil {
		return Sample{}, err
	}
	return Sample{Elapsed: time.Since(begin), CPU: m.cpu()}, nil
}

// filledFleet is a fleet's journal with many sessions in it.
type filledFleet struct {
	journal  *jetstream.Journal
	keys     *seal.Keyring
	store    *jetstream.Snapshots
	manifest *snapshot.Manifest
}

func (r *replicas) fillFleet(ctx context.Context, s *scratch, f *fleet) (l *filledFleet, err error) {
	l = new(filledFleet)
	if l.keys, err = seal.Load(f.keys()); err != nil {
		return nil, err
	}
	if l.journal, err = s.journal(ctx, f.prefix); err != nil {
		return nil, err
	}
	m, err := newMinter(ctx, l.keys, l.journal.Keys())
	if err != nil {
		return nil, err
	}
	if l.store, err = l.journal.OpenSnapshots(ctx, clusterServers, true); err != nil {
		return nil, err
	}
	_, err = newLoad(m, false).fill(ctx, l.journal, l.keys, r.o.Sessions, 500)
	return l, err
}

// take folds the journal and takes a snapshot of it.
func (l *filledFleet) take(ctx context.Context) error {
	state, err := replay.Fold(ctx, replay.FoldOptions{Source: l.journal, Opener: seal.NewBatchOpener(l.keys)})
	if err != nil {
		return err
	}
	l.manifest, err = snapshot.Write(ctx, l.store, seal.NewChunks(l.keys), state.Freeze(), journal.InstantOf(time.Now()))
	return err
}

func (l *filledFleet) read(ctx context.Context) error {
	n := 0
	err := l.store.Chunks(ctx, l.manifest.ID, func([]byte) error { n++; return nil })
	if n != l.manifest.Chunks {
		return errors.Join(err, fmt.Errorf("%d chunks instead of %d", n, l.manifest.Chunks))
	}
	return err
}
