package daemon

import (
	"context"
	"time"

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

// keepSnapshots makes the keeper and tells from where the restore came.
func (d *daemon) keepSnapshots(ctx context.Context) (err error) {
	c := &d.c.Snapshots
	d.keeper, err = d.store.KeepSnapshots(ctx, snapshot.KeeperOptions{
		EveryEvents: c.EveryEvents, EveryMessages: c.EveryMessages, EveryTime: c.EveryTime, Retention: c.Retention,
		Observer: d.metrics,
	})
	m, passed := d.store.Start()
	sessions := 0
	if m != nil {
		sessions = m.Sessions
	}
	d.metrics.RestoredFromSnapshot(sessions, passed)
	return err
}

func (d *daemon) takeSnapshot(ctx context.Context) (snapshot.Report, error) { return d.keeper.Take(ctx) }
