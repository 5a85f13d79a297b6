package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// snapshots is what belongs to snapshots of an open store.
type snapshots struct {
	store    *jetstream.Snapshots // nil while there is no stream of them
	sealer   *seal.Chunks
	restored *snapshot.Restored
}

// openSnapshots opens the stream of snapshots, if there is one.
func (s *Store) openSnapshots(ctx context.Context) (err error) {
	s.snapshots.sealer = seal.NewChunks(s.Keyring())
	return s.openSnapshotStream(ctx, false)
}

func (s *Store) openSnapshotStream(ctx context.Context, create bool) error {
	st, err := s.Journal.OpenSnapshots(ctx, s.o.Replicas, create)
	if errors.Is(err, journal.ErrNoMessage) {
		return nil
	}
	s.snapshots.store = st
	return err
}

// startState returns the state of the newest good snapshot that fits the stream; nil to begin before the first batch.
// What it passes over it logs. It fails with replay.ErrNeedsSnapshot if the stream alone cannot bring the state back.
func (s *Store) startState(ctx context.Context, losses []journal.Loss) (*replay.State, error) {
	src := replay.Over(s.Journal, losses)
	bounds, err := src.Bounds(ctx)
	if err != nil {
		return nil, err
	}
	s.snapshots.restored = &snapshot.Restored{}
	if s.snapshots.store != nil {
		began := time.Now()
		r, err := snapshot.Restore(ctx, snapshot.RestoreOptions{
			Store: s.snapshots.store, Sealer: s.snapshots.sealer, Journal: s.Journal.ID(), Bounds: bounds, Stream: src, Losses: losses,
			Progress: s.loading(began),
		})
		if err != nil {
			return nil, err
		}
		s.snapshots.restored = r
		s.tellSnapshot(r, time.Since(began))
		if err := s.tellIncomplete(ctx, began); err != nil {
			return nil, err
		}
	}
	if s.snapshots.restored.State == nil && bounds.First > 1 {
		return nil, fmt.Errorf("restore: %w", &replay.NeedsSnapshotError{From: 1, To: bounds.First - 1})
	}
	return s.snapshots.restored.State, nil
}

// loading turns what a snapshot's load tells into the progress of the restore.
func (s *Store) loading(began time.Time) func(loaded, of int) {
	if s.o.Progress == nil {
		return nil
	}
	var told time.Time
	return func(loaded, _ int) {
		if now := time.Now(); now.Sub(told) >= 100*time.Millisecond {
			told = now
			s.o.Progress(replay.Progress{Sessions: loaded, Elapsed: now.Sub(began)})
		}
	}
}

func (s *Store) tellSnapshot(r *snapshot.Restored, took time.Duration) {
	for _, p := range r.Passed {
		s.o.Logger.Error().Err(p.Err).Stringer("snapshot", p.ID).Uint64("seq", uint64(p.Seq)).
			Msg("damage: a snapshot cannot be used; an older one or the journal itself is taken")
	}
	if m := r.Manifest; m != nil {
		s.o.Logger.Info().Stringer("snapshot", m.ID).Uint64("seq", uint64(m.Seq)).Time("taken", m.Taken.Time()).
			Int("sessions", m.Sessions).Int64("bytes", m.Bytes).Dur("took", took).Msg("snapshot loaded; folding what followed")
	}
}

// tellIncomplete names the snapshots without a manifest that nobody is taking just now.
func (s *Store) tellIncomplete(ctx context.Context, now time.Time) error {
	list, err := s.snapshots.store.Snapshots(ctx)
	if err != nil {
		return err
	}
	for _, x := range list {
		if x.Manifest == nil && now.Sub(x.Stored.Time()) >= time.Minute {
			s.o.Logger.Warn().Stringer("snapshot", x.ID).Time("stored", x.Stored.Time()).
				Msg("a snapshot is not complete: its taking was interrupted, or its manifest is lost; it is not used")
		}
	}
	return nil
}

// KeepSnapshots makes what takes snapshots and trims the stream. Of o, Store, Sealer, Table and Stream are set here.
// Call it after Restore; the caller runs the keeper and ends it before Close.
func (s *Store) KeepSnapshots(ctx context.Context, o snapshot.KeeperOptions) (*snapshot.Keeper, error) {
	if s.snapshots.store == nil {
		if err := s.openSnapshotStream(ctx, true); err != nil {
			return nil, err
		}
	}
	o.Store, o.Sealer, o.Table, o.Stream = s.snapshots.store, s.snapshots.sealer, s.Follower, stream{s.Source(), s.Journal}
	o.Logger = s.o.Logger
	return snapshot.NewKeeper(o)
}

// At returns the state as it was at a point in the past, folded from the nearest snapshot before it.
func (s *Store) At(ctx context.Context, p audit.Point) (*replay.State, error) {
	o := audit.TravelOptions{Source: s.Journal, Opener: s.Opener, Losses: s.guard.losses}
	if s.snapshots.store != nil {
		bounds, err := s.Source().Bounds(ctx)
		if err != nil {
			return nil, err
		}
		r, err := snapshot.Restore(ctx, snapshot.RestoreOptions{
			Store: s.snapshots.store, Sealer: s.snapshots.sealer, Journal: s.Journal.ID(), Bounds: bounds, Stream: s.Source(), Losses: s.guard.losses,
			Before: func(m *snapshot.Manifest) bool { return p.Reached(m.Seq, m.Now) },
		})
		if err != nil {
			return nil, err
		}
		o.State = r.State
	}
	return audit.Travel(ctx, o, p)
}
