package doctor

import (
	"cmp"
	"context"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/replay"
)

// remote reads a journal that is kept in a NATS of the operator's.
func (e *exam) remote(ctx context.Context) {
	if e.daemon != nil {
		e.running()
		return
	}
	o := e.o.Store
	o.Create = false
	s, err := store.Open(ctx, o)
	if err == nil {
		defer func() { _ = s.Close(context.WithoutCancel(ctx)) }()
		err = s.Restore(ctx)
	}
	if err != nil {
		e.add("journal", Fail, journalHint(err), "%v", err)
		return
	}
	p := s.Follower.Progress()
	s.Follower.View(func(st *replay.State) { e.latest = st.Now().Time() })
	e.ok("journal", "%s: %d batches, %d events, %s restored in %s; the keyring fits",
		s.Journal.ID(), p.Seq, p.Events, views.Plural(p.Sessions, "session"), console.Short(p.Elapsed))
	e.tenantKeys(ctx, s)
	e.promise(s)
	c := s.Journal.Clock()
	e.skew(c.Ahead, c.Within)
}

// skew judges the difference between this machine's clock and the stream's.
func (e *exam) skew(ahead, within time.Duration) {
	off := max(ahead.Abs()-within, 0)
	if off > clockSlip {
		e.add("stream's clock", Warn, "set the clocks of this machine and of the NATS servers (NTP): sessions expire by the stream's, and a replica's accesses count as made when it says, so a session may expire so much too early or too late",
			"it is %s off this machine's", console.Rough(off))
		return
	}
	e.ok("stream's clock", "within %v of this machine's", (off + within).Round(time.Millisecond))
}

// replicas tells of the others that the daemon hears, and how it keeps up with them.
func (e *exam) replicas(r *control.Replicas) {
	e.skew(time.Duration(r.ClockAheadMS*float64(time.Millisecond)), time.Duration(r.ClockWithinMS*float64(time.Millisecond)))
	for _, p := range r.Others {
		switch p.State {
		case "silent":
			e.add("replica "+p.Name, Warn, "look whether it runs and reaches NATS", "not heard for %v", time.Duration(p.HeardMS)*time.Millisecond)
		case "there":
			e.ok("replica "+p.Name, "there, %s", cmp.Or(p.URL, "takes no forwarded requests"))
		}
	}
	if r.LagSeconds > 10 {
		e.add("lag", Warn, "look at this machine's load and its way to NATS", "%d batches, %d events, %.0f s behind", r.LagBatches, r.LagEvents, r.LagSeconds)
		return
	}
	e.ok("lag", "%d batches, %d events behind; caught up %.1f s ago", r.LagBatches, r.LagEvents, r.LagSeconds)
}

// promise tells what the servers guarantee.
func (e *exam) promise(s *store.Store) {
	p, ok := s.Promise()
	if !ok {
		e.ok("durability", "%s", s.Durability())
		return
	}
	e.ok("NATS", "server %s, cluster %q of %s, streams of %s", p.Version, p.Cluster,
		views.Plural(p.Servers, "known server"), views.Plural(p.Replicas, "replica"))
	warnings := p.Warnings()
	if len(warnings) == 0 {
		e.ok("durability", "%s", s.Durability())
	}
	for _, w := range warnings {
		e.add("durability", Warn, w, "%s", s.Durability())
	}
}
