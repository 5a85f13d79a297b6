package doctor

import (
	"context"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
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
