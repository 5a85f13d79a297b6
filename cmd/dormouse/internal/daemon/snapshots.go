package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// Snapshots says when snapshots are taken and how long batches are kept. Zero fields are snapshot.KeeperOptions'
// defaults.
type Snapshots struct {
	EveryEvents   int
	EveryMessages int
	EveryTime     time.Duration
	Retention     time.Duration // 0 = for ever
}

// keepSnapshots makes the keeper. Where the journal takes nothing now, as on a full disk, this run goes without.
func (d *daemon) keepSnapshots(ctx context.Context) (err error) {
	c := &d.c.Snapshots
	d.keeper, err = d.store.KeepSnapshots(ctx, snapshot.KeeperOptions{
		EveryEvents: c.EveryEvents, EveryMessages: c.EveryMessages, EveryTime: c.EveryTime, Retention: c.Retention,
		Observer: d.metrics,
	})
	if errors.Is(err, journal.ErrUnavailable) {
		d.log.Error().Err(err).Msg("no snapshots will be taken until the next start")
		return nil
	}
	return err
}

func (d *daemon) runSnapshots(ctx context.Context) {
	if d.keeper != nil {
		d.keeper.Run(ctx)
	}
}

func (d *daemon) takeSnapshot(ctx context.Context) (snapshot.Report, error) {
	if d.keeper == nil {
		return snapshot.Report{}, fmt.Errorf("snapshot: %w: the stream for them could not be made at the start", journal.ErrUnavailable)
	}
	return d.keeper.Take(ctx)
}
