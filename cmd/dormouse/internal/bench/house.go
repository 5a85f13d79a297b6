package bench

import (
	"context"
	"errors"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// house is an engine over a journal.
type house struct {
	engine   *engine.Engine
	follower *replay.Follower
	stop     func()
}

type houseOptions struct {
	journal  *jetstream.Journal
	keys     *seal.Keyring
	state    *replay.State // nil: none yet
	sessions int           // at most
}

func newHouse(ctx context.Context, o houseOptions) (*house, error) {
	w := journal.NewWriterID()
	f, err := replay.Follow(ctx, replay.FollowOptions{Source: o.journal, Opener: seal.NewBatchOpener(o.keys), Journal: o.journal.ID(), State: o.state})
	if err != nil {
		return nil, err
	}
	sealer, err := seal.NewBatchSealer(o.keys, w)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c, err := commit.New(commit.Options{Port: o.journal, Encoder: sealer, Journal: o.journal.ID(), Writer: w, Basis: f.Basis}) //nolint:contextcheck // it ends with its Close
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h := &house{follower: f}
	h.engine, err = engine.New(engine.Options{ //nolint:contextcheck // it ends with its Shutdown
		Replica: "bench", Appender: c, Table: f, Vault: seal.NewVault(o.keys, o.journal.Keys()), MaxSessions: o.sessions,
		ValidateContext: func(engine.InstanceContext) error { return nil },
		Identify: func(ic engine.InstanceContext) (engine.Identity, error) {
			t := journal.TenantID(o.keys.Name("bench tenant", ic.InstanceID))
			return engine.Identity{Tenant: t, Label: ic.InstanceID, URLHash: journal.URLHash(t)}, nil
		},
	})
	h.stop = func() {
		if h.engine != nil {
			_ = h.engine.Shutdown(ctx)
		}
		_ = c.Close(ctx)
		_ = f.Close()
	}
	if err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}
