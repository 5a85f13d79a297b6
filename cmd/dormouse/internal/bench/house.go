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
	engine *engine.Engine
	stop   func()
}

// newHouse lets an engine have at most that many sessions.
func newHouse(ctx context.Context, j *jetstream.Journal, keys *seal.Keyring, sessions int) (*house, error) {
	w := journal.NewWriterID()
	f, err := replay.Follow(ctx, replay.FollowOptions{Source: j, Opener: seal.NewBatchOpener(keys), Journal: j.ID()})
	if err != nil {
		return nil, err
	}
	sealer, err := seal.NewBatchSealer(keys, w)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c, err := commit.New(commit.Options{Port: j, Encoder: sealer, Journal: j.ID(), Writer: w, Basis: f.Basis}) //nolint:contextcheck // it ends with its Close
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h := new(house)
	h.engine, err = engine.New(engine.Options{ //nolint:contextcheck // it ends with its Shutdown
		Replica: "bench", Appender: c, Table: f, Vault: seal.NewVault(keys, j.Keys()), MaxSessions: sessions,
		ValidateContext: func(engine.InstanceContext) error { return nil },
		Identify: func(ic engine.InstanceContext) (engine.Identity, error) {
			t := journal.TenantID(keys.Name("bench tenant", ic.InstanceID))
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
