package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

func (f *storeFlags) options() store.Options {
	o := store.Options{Dir: f.Data, KeyFile: f.KeyFile, Keys: os.Getenv("DORMOUSE_KEYS")}
	f.fill(&o)
	return o
}

// openStopped opens the store of a folder on which no daemon runs, and answers from it as the daemon would.
func openStopped(ctx context.Context, f *storeFlags, s console.Streams) (*control.Client, func(), error) {
	return openStoppedWith(ctx, f, s, nil)
}

// openStoppedWith does it with what more gives the backend, if it is not nil. stop is called before the store closes.
func openStoppedWith(
	ctx context.Context, f *storeFlags, s console.Streams, more func(*store.Store, *control.Backend) (stop func(), err error),
) (*control.Client, func(), error) {
	o := f.options()
	bar, progress := foldingBar(s)
	defer bar.Done()
	o.Progress = progress
	st, err := store.Open(ctx, o)
	if err != nil {
		return nil, nil, hinted(err, f.Data)
	}
	done := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := st.Close(ctx); err != nil {
			fmt.Fprintf(s.Err, "dormouse: %v\n", err)
		}
	}
	if err := st.Restore(ctx); err != nil {
		done()
		return nil, nil, hinted(err, f.Data)
	}
	b := stoppedBackend(st)
	if more == nil {
		return control.InProcess(control.Handler(b)), done, nil
	}
	stop, err := more(st, b)
	if err != nil {
		done()
		return nil, nil, err
	}
	return control.InProcess(control.Handler(b)), func() { stop(); done() }, nil
}

func stoppedBackend(st *store.Store) *control.Backend {
	return &control.Backend{
		Status: func() control.Status {
			p := st.Follower.Progress()
			return control.Status{State: "stopped", Journal: st.Journal.ID().String(), Folded: p.Seq, Target: p.Target, Sessions: p.Sessions}
		},
		Ready: func() bool { return true },
		View:  st.Follower.View,
		History: func(ctx context.Context, q audit.Query, fn func(audit.Entry) error) error {
			return st.History(ctx, q, fn)
		},
		Begins: st.Begins,
		Verify: verifier(st),
		Close:  func(ctx context.Context, ref journal.Ref) error { return closeStopped(ctx, st, ref) },
		Past: control.Past{At: st.At, Snapshot: func(ctx context.Context) (snapshot.Report, error) {
			k, err := st.KeepSnapshots(ctx, snapshot.KeeperOptions{})
			if err != nil {
				return snapshot.Report{}, err
			}
			return k.Take(ctx)
		}},
		Keys:        st.Keys,
		ReadingKeys: func() []byte { return st.Keyring().Reading().Text() },
		Rotate:      st.Rotate,
		RetireKeys:  st.RetireKeys,
		Tenants:     st.Tenants,
		EraseTenant: st.EraseTenant,
	}
}

// closeStopped ends a session without an engine: nothing is live here.
func closeStopped(ctx context.Context, st *store.Store, ref journal.Ref) error {
	if err := writable(st); err != nil {
		return err
	}
	var found replay.Session
	var ok bool
	st.Follower.View(func(s *replay.State) { found, ok = s.Session(ref) })
	if !ok {
		return engine.ErrUnknownSession
	}
	at, err := st.Committer.Append(ctx, journal.Event{
		Kind: journal.KindClosed, Ref: ref, At: journal.InstantOf(time.Now()), Epoch: found.Epoch, Reason: journal.ReasonAdmin,
	})
	if err != nil {
		return err
	}
	return st.Follower.WaitFor(ctx, at.Seq)
}
