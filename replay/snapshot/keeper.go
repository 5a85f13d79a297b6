package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// kept is how many complete snapshots are kept.
const kept = 2

// Keeper takes snapshots, keeps the newest two, and trims the stream behind them. On several replicas whichever gets
// there first takes one, and the others see it. Safe for concurrent use.
type Keeper struct {
	o KeeperOptions

	mu sync.Mutex // held while one is taken
	// base is the newest snapshot that this replica knows of.
	base Manifest
}

// Report is what was done for one snapshot.
type Report struct {
	Manifest

	Froze    time.Duration // how long the fold was held up
	Wrote    time.Duration // until it was durable
	Verified time.Duration // until it was read again and found right
}

// NewKeeper returns a keeper. Call Run for what is done in the background.
func NewKeeper(o KeeperOptions) (*Keeper, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	// Without any snapshot the time counts from here.
	return &Keeper{o: o, base: Manifest{Taken: journal.InstantOf(o.Now())}}, nil
}

// Run takes snapshots when they are due, until ctx ends. Failures are logged and tried again.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(k.o.CheckEvery)
	defer tick.Stop()
	pause := k.o.CheckEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := k.check(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = k.o.CheckEvery
			tick.Reset(pause)
			continue
		}
		k.o.Observer.SnapshotFailed(err)
		k.o.Logger.Error().Err(err).Msg("no snapshot could be taken; the journal goes on, and its next restart folds more")
		pause = min(2*pause, 10*time.Minute)
		tick.Reset(pause)
	}
}

// check takes a snapshot if one is due and nobody else is at it.
func (k *Keeper) check(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.due() {
		return nil
	}
	busy, err := k.look(ctx)
	if err != nil || busy || !k.due() {
		return err
	}
	_, err = k.take(ctx)
	if errors.Is(err, ErrSkipped) {
		k.o.Logger.Debug().Err(err).Msg("snapshots are left to newer replicas")
		return nil
	}
	return err
}

// due reports whether enough has happened since the base.
func (k *Keeper) due() (due bool) {
	k.o.Table.View(func(s *replay.State) {
		seq, events := s.Seq(), s.Folded()
		if seq <= k.base.Seq {
			return
		}
		due = k.o.EveryEvents > 0 && events >= k.base.Events+uint64(k.o.EveryEvents) ||
			k.o.EveryMessages > 0 && seq >= k.base.Seq+journal.Seq(k.o.EveryMessages) ||
			k.o.EveryTime > 0 && k.o.Now().Sub(k.base.Taken.Time()) >= k.o.EveryTime
	})
	return due
}

// look finds the newest snapshot of all replicas, and whether one of them is taking another just now.
func (k *Keeper) look(ctx context.Context) (busy bool, err error) {
	all, err := k.o.Store.Snapshots(ctx)
	if err != nil {
		return false, err
	}
	for _, x := range all {
		if x.Manifest == nil {
			busy = busy || k.o.Now().Sub(x.Stored.Time()) < time.Minute
			continue
		}
		if m, err := ParseManifest(x.Manifest); err == nil && m.Seq >= k.base.Seq {
			k.base = m
		}
	}
	return busy, nil
}

// Take takes a snapshot now, reads it again, and removes what it makes superfluous. Besides the store's errors it
// fails with ErrSkipped, and with those of [Verify].
func (k *Keeper) Take(ctx context.Context) (Report, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.take(ctx)
}

func (k *Keeper) take(ctx context.Context) (r Report, err error) {
	began := time.Now()
	f := k.o.Table.Freeze()
	r.Froze = time.Since(began)
	if n := f.Ledger().Stats.Unknown; n > 0 {
		f.Release()
		return r, fmt.Errorf("%w: %d of them", ErrSkipped, n)
	}
	m, err := Write(ctx, k.o.Store, k.o.Sealer, f, journal.InstantOf(k.o.Now()))
	if err != nil {
		return r, err
	}
	r.Manifest, r.Wrote = *m, time.Since(began)
	if err := k.prove(ctx, m); err != nil && !errors.Is(err, errOvertaken) {
		return r, err
	}
	r.Verified = time.Since(began)
	k.base = *m
	k.o.Observer.SnapshotTaken(r)
	k.o.Logger.Info().Stringer("snapshot", m.ID).Uint64("seq", uint64(m.Seq)).Int("sessions", m.Sessions).Int64("bytes", m.Bytes).
		Dur("froze", r.Froze).Dur("wrote", r.Wrote).Dur("verified", r.Verified).Msg("snapshot taken")
	return r, k.tidy(ctx)
}

// prove reads a snapshot again. One that is not what was written is removed: it must not push out a good one.
func (k *Keeper) prove(ctx context.Context, m *Manifest) error {
	err := Verify(ctx, k.o.Store, k.o.Sealer, m)
	if err == nil || ctx.Err() != nil || errors.Is(err, journal.ErrUnavailable) {
		return err
	}
	if there, failed := k.listed(ctx, m.ID); failed != nil || !there {
		return errors.Join(errOvertaken, failed)
	}
	k.o.Logger.Error().Err(err).Stringer("snapshot", m.ID).Msg("a snapshot is not what was written; it is removed")
	return errors.Join(err, k.o.Store.Delete(ctx, m.ID))
}

// tidy removes snapshots beyond the newest two and what dead takers left, then trims the stream.
func (k *Keeper) tidy(ctx context.Context) error {
	all, err := k.o.Store.Snapshots(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.Manifest == nil && k.o.Now().Sub(x.Stored.Time()) >= k.o.Abandoned {
			k.o.Logger.Warn().Stringer("snapshot", x.ID).Time("since", x.Stored.Time()).Msg("removing what an interrupted snapshot left")
			if err := k.o.Store.Delete(ctx, x.ID); err != nil {
				return err
			}
		}
	}
	list, err := List(ctx, k.o.Store)
	if err != nil {
		return err
	}
	list = k.own(list)
	for i := kept; i < len(list); i++ {
		if err := k.o.Store.Delete(ctx, list[i].ID); err != nil {
			return err
		}
	}
	if k.o.Retention == 0 || len(list) < kept {
		return nil
	}
	if err := k.trim(ctx, list[:kept]); !errors.Is(err, errOvertaken) {
		return err
	}
	return nil // whoever was faster has trimmed, or will
}

// errOvertaken says that another replica has removed meanwhile what was looked at: a newer snapshot took its place.
var errOvertaken = errors.New("another replica was faster")

// listed reports whether there is a snapshot of that ID.
func (k *Keeper) listed(ctx context.Context, id journal.SnapshotID) (bool, error) {
	all, err := k.o.Store.Snapshots(ctx)
	return slices.ContainsFunc(all, func(x journal.StoredSnapshot) bool { return x.ID == id && x.Manifest != nil }), err
}

// own leaves out snapshots of other journals and other folds: they are neither counted nor removed.
func (k *Keeper) own(list []Manifest) (out []Manifest) {
	for _, m := range list {
		if m.Journal == k.base.Journal && m.Fold == replay.FoldVersion {
			out = append(out, m)
		}
	}
	return out
}
