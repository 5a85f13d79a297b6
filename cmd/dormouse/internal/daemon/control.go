package daemon

import (
	"context"
	"os"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// openControl opens the control socket and says in the folder who runs. The folder's lock is held.
func (d *daemon) openControl(ctx context.Context) error {
	l, path, err := control.Listen(ctx, d.c.Store.Dir)
	if err != nil {
		return err
	}
	d.record = control.Daemon{ // before the socket serves: Status reads it
		PID: os.Getpid(), Started: d.phase.began, Version: d.c.Version, Listen: d.listen.Addr().String(), Control: path,
	}
	if d.adminListen != nil {
		d.record.Admin = d.adminListen.Addr().String()
	}
	d.servers.serve(l, control.Handler(d.backend))
	return control.WriteDaemon(d.c.Store.Dir, d.record)
}

// newBackend is what commands ask. All but Status is asked only while ready.
func (d *daemon) newBackend() *control.Backend {
	return &control.Backend{
		Status: d.status,
		Ready:  d.serving,
		View:   func(fn func(*replay.State)) { d.store.Follower.View(fn) },
		History: func(ctx context.Context, q audit.Query, fn func(audit.Entry) error) error {
			return d.store.History(ctx, q, fn)
		},
		Begins: func(ctx context.Context) (journal.Seq, journal.Instant, error) { return d.store.Begins(ctx) },
		Verify: func(ctx context.Context, headersOnly bool, progress func(audit.VerifyProgress)) (*audit.Report, error) {
			return d.store.Verify(ctx, store.VerifyOptions{HeadersOnly: headersOnly, Progress: progress})
		},
		Close: func(ctx context.Context, ref journal.Ref) error { return d.engine.Close(ctx, ref, journal.ReasonAdmin) },
		Live:  func() map[journal.Ref]bool { return d.liveRefs() },
		Past: control.Past{
			Snapshot: d.takeSnapshot,
			At:       func(ctx context.Context, p audit.Point) (*replay.State, error) { return d.store.At(ctx, p) },
		},
		Transfer: d.transfer(),

		Keys:        func(ctx context.Context, count bool) (control.Keys, error) { return d.store.Keys(ctx, count) },
		ReadingKeys: func() []byte { return d.store.Keyring().Reading().Text() },
		Rotate:      d.rotate,
		RetireKeys:  func(ctx context.Context, who string) (control.Rotated, error) { return d.store.RetireKeys(ctx, who) },
		Tenants:     func(ctx context.Context) ([]control.Tenant, error) { return d.store.Tenants(ctx) },
		EraseTenant: d.eraseTenant,
	}
}

func (d *daemon) liveRefs() map[journal.Ref]bool {
	live := map[journal.Ref]bool{}
	for _, s := range d.engine.List() {
		if s.Live {
			live[s.Ref] = true
		}
	}
	return live
}

func (d *daemon) status() control.Status {
	x := d.readiness()
	s := control.Status{
		State: x.State, PID: d.record.PID, Version: d.c.Version, Replica: string(d.c.Replica), Listen: d.record.Listen,
		Admin: d.record.Admin, Started: d.record.Started, Folded: x.Folded, Target: x.Target, Sessions: x.Sessions, Command: d.c.Children.Command,
	}
	if d.c.Upstream != "" {
		s.Upstream = gateway.ShownURL(d.c.Upstream)
	}
	if x.State == phaseReady {
		s.Journal, s.Live = d.store.Journal.ID().String(), d.engine.SessionInfo().Live
		s.Durability, s.Replicas = d.store.Durability(), d.replicaStatus()
		d.store.Follower.View(func(st *replay.State) { s.JournalTime = st.Now().Time() })
	}
	return s
}
