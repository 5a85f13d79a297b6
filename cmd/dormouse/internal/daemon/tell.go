package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/metrics"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// The start-up log: what is where, and what to do next.

func (d *daemon) tellStore() {
	if path := d.store.KeysMade; path != "" {
		d.log.Warn().Str("file", abs(path)).Msg("first start: a new keyring was made. Back it up, apart from the data: without it nobody can read the journal")
	}
	l := d.log.Info().Stringer("journal", d.store.Journal.ID())
	promise, remote := d.store.Promise()
	if remote {
		l = l.Str("durability", d.store.Durability()).Str("server", promise.Version).Str("cluster", promise.Cluster).
			Int("servers", promise.Servers).Int("replicas", promise.Replicas)
		for _, w := range promise.Warnings() {
			d.log.Warn().Msg(w)
		}
	} else {
		l = l.Str("folder", abs(d.c.Store.Dir))
	}
	if d.store.Fresh {
		l.Msg("a new journal")
		return
	}
	l.Msg("journal opened; restoring")
}

// tellProgress shows how far the restore is, or logs a long one about once a second.
func (d *daemon) tellProgress(p replay.Progress) {
	if d.c.Progress != nil {
		d.c.Progress(p)
		return
	}
	second := int64(p.Elapsed / time.Second)
	if p.Ready || second == 0 || d.told.Swap(second) == second {
		return
	}
	l := d.log.Info().Uint64("folded", uint64(p.Seq)).Uint64("of", uint64(p.Target)).Int("sessions", p.Sessions)
	if p.Target > 0 {
		l = l.Int("percent", int(100*p.Seq/max(p.Target, 1)))
	}
	l.Msg("restoring")
}

// tellRestored tells what was restored: in the log, in /readyz and in the metrics. What was passed over is in the log
// by its name already.
func (d *daemon) tellRestored() {
	p := d.store.Follower.Progress()
	r := d.store.Restoration(time.Now())
	d.phase.restored(p, &r)
	x := metrics.Start{
		Restored: r.Restored, Expired: r.Expired, Damaged: r.Damaged, Skipped: r.Skipped, Lost: r.Lost, PassedOver: len(r.PassedOver),
	}
	if r.Snapshot != nil {
		x.Loaded = r.Snapshot.Sessions
	}
	d.metrics.Started(x)
	if d.store.Fresh {
		return
	}
	l := d.log.Info().Int("sessions", r.Restored).Int("expired", r.Expired).Int("damaged", r.Damaged).Uint64("skipped", r.Skipped).
		Uint64("lost", r.Lost).Float64("ms", millis(p.Elapsed)).Uint64("batches", uint64(p.Seq)).Uint64("events", p.Events)
	if r.Snapshot != nil {
		l = l.Str("snapshot", r.Snapshot.ID)
	}
	if n := len(r.PassedOver); n > 0 {
		l = l.Int("snapshotsPassedOver", n)
	}
	l.Msg("restored; all sessions are dormant and wake on their next request")
	var refused uint64
	d.store.Follower.View(func(st *replay.State) {
		for _, n := range st.Stats().Refused {
			refused += n
		}
	})
	d.log.Debug().Uint64("refused", refused).Stringer("kinds", journal.LastKind).Msg("folded")
}

// checkKeys refuses to go on while sessions were restored that cannot wake, unless the operator accepts their loss.
func (d *daemon) checkKeys(ctx context.Context) error {
	closed, err := d.store.ResolveOrphans(ctx)
	if o, ok := errors.AsType[*store.OrphansError](err); ok {
		lost := 0
		for i := range o.Orphans {
			lost += o.Orphans[i].Sessions
		}
		d.metrics.SessionsWithoutKey(lost)
	}
	if closed > 0 {
		d.log.Warn().Int("sessions", closed).Msg("loss accepted: these sessions are closed, because their tenants' keys are lost")
	}
	return err
}

// tellAcceptance reminds of an --accept-loss that is no decision any more: it would accept every later loss unseen.
func (d *daemon) tellAcceptance() {
	if !d.c.Store.AcceptLoss {
		return
	}
	const again = "take --accept-loss (DORMOUSE_ACCEPT_LOSS, accept-loss in the configuration file) out again: while it is there, any later loss is accepted without asking"
	if d.store.Accepted() {
		d.log.Warn().Msg("a loss was accepted at this start; now " + again)
		return
	}
	d.log.Warn().Msg("nothing was damaged, so nothing had to be accepted; " + again)
}

func (d *daemon) tellReady(token string) {
	d.log.Info().Str("mcp", d.endpoint()).Str("upstream", d.c.describeUpstream()).Str("replica", string(d.c.Replica)).Msg("ready; point MCP clients at the mcp address")
	if d.adminListen != nil {
		d.log.Info().Str("metrics", "http://"+d.adminListen.Addr().String()+"/metrics").Str("token", abs(token)).
			Msg("to look inside: dormouse sessions ls, dormouse log --follow (both with --data " + d.c.Store.Dir + ")")
	}
}

func abs(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}
