package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
)

var errShutdownTimeout = errors.New("the time that --shutdown-timeout gives is up")

// shutdown takes everything down that was started, in the order of the package comment. What is left of the drain's
// share of the time goes to the journal. It returns what may have cost data; a client that was cut off is only logged.
func (d *daemon) shutdown(ctx context.Context) error {
	began := time.Now()
	d.lame(ctx)
	ctx, cancel := context.WithTimeoutCause(ctx, d.c.ShutdownTimeout, errShutdownTimeout)
	defer cancel()
	d.drain(ctx)
	if d.noted {
		if err := d.note(ctx, journal.KindReplicaStopped); err != nil {
			d.log.Warn().Err(err).Msg("the end of this replica could not be journaled")
		}
	}
	if d.record.PID != 0 {
		// With the lock still held: afterwards these may be the next daemon's.
		control.RemoveDaemon(d.c.Store.Dir, d.record)
	}
	var err error
	if d.store != nil {
		err = d.store.Close(ctx)
	}
	d.servers.close(ctx)
	d.log.Info().Float64("ms", millis(time.Since(began))).Msg("stopped")
	return err
}

// drain stops accepting, ends streams, waits for requests under way and closes runtimes.
func (d *daemon) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.c.ShutdownTimeout*2/3, errShutdownTimeout)
	defer cancel()
	d.phase.shut()
	var closing sync.WaitGroup
	closing.Go(func() { d.clients.close(ctx) })
	closing.Go(func() { d.forwards.close(ctx) })
	if d.engine != nil {
		if err := d.engine.Shutdown(ctx); err != nil {
			d.log.Warn().Err(err).Msg("requests were cut off")
		}
	}
	if d.waker != nil {
		_ = d.waker.Close(ctx)
	}
	closing.Wait()
	if d.directory != nil {
		d.directory.Close()
	}
}
