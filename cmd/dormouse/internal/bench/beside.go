package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

const (
	besideConns = 8
	besidePause = time.Millisecond // of each client: a gateway that is not quite busy
	besideTime  = 3 * time.Second
)

// BesideResult is how long requests through `dormouse serve` took, alone and while it took snapshots of all its sessions.
type BesideResult struct {
	Alone     Sample        `json:"alone"`
	During    Sample        `json:"duringSnapshots"`
	Snapshots int           `json:"snapshots"`
	Took      time.Duration `json:"snapshotTook"` // the command, from exec to the end of its check: the median
}

// beside measures calls over HTTP, answered by the lean upstream, on a daemon that holds all the dormant sessions.
func (o RestoreOptions) beside(ctx context.Context) (out BesideResult, err error) {
	d, stop, err := newDaemon(ctx, o.Sessions)
	if err != nil {
		return out, err
	}
	defer stop()
	if err := d.plant(ctx, o.Sessions); err != nil {
		return out, err
	}
	p, err := d.start(ctx)
	if err != nil {
		return out, err
	}
	defer p.stop()
	if err := p.ready(ctx, "http://"+d.listen+"/readyz", 20*time.Millisecond); err != nil {
		return out, err
	}
	load := Load{Conns: besideConns, Tool: ToolSmall, For: besideTime, Pause: besidePause}
	sessions, err := load.connect(ctx, "http://"+d.listen+"/mcp")
	if err != nil {
		return out, err
	}
	defer closeAll(sessions)
	load.Round(sessions) // warms up
	out.Alone = load.Round(sessions)
	load.For = time.Hour
	load.Until = make(chan struct{})
	var took []Sample
	var taken error
	go func() {
		defer close(load.Until)
		for range o.Rounds {
			var s Sample
			if s, taken = timed(func() error { return snapshotOf(ctx, d.dir) }); taken != nil {
				return
			}
			took = append(took, s)
		}
	}()
	out.During = load.Round(sessions)
	<-load.Until
	out.Snapshots, out.Took = len(took), Median(took, func(s Sample) time.Duration { return s.Elapsed })
	if failed := out.Alone.Failed + out.During.Failed; failed > 0 {
		taken = errors.Join(taken, fmt.Errorf("%d calls failed", failed))
	}
	return out, taken
}

func snapshotOf(ctx context.Context, dir string) error {
	c, err := start(ctx, "snapshot", "--data", dir)
	if err != nil {
		return err
	}
	<-c.exited
	if end := c.cmd.ProcessState; !end.Success() {
		return fmt.Errorf("dormouse snapshot: %s\n%s", end, c.log.String())
	}
	return nil
}

// plant journals n sessions into the daemon's folder, as one that ran before would have.
func (d *daemon) plant(ctx context.Context, n int) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	keys := seal.GenerateKeyring()
	if err := seal.Save(filepath.Join(d.dir, "keys"), keys); err != nil {
		return err
	}
	s := &scratch{dir: d.dir, sync: SyncAlways}
	defer s.halt()
	if err := s.start(); err != nil {
		return err
	}
	j, err := s.journal(ctx, jetstream.DefaultPrefix)
	if err != nil {
		return err
	}
	m, err := newMinter(ctx, keys, j.Keys())
	if err != nil {
		return err
	}
	_, err = newLoad(m, false).fill(ctx, j, keys, n, 500)
	return err
}
