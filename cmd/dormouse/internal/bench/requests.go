package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

const (
	requesters      = 8
	requestSessions = 256
	requestPause    = time.Millisecond // of each requester: a gateway that is not quite busy
	requestTime     = 2 * time.Second
)

// requests lets clients call their sessions through an engine that holds all the dormant ones, alone and while snapshots
// are taken: the session is found, its owner checked, the call journaled; no upstream is asked.
func (r *restoring) requests(ctx context.Context, out *RestoreResult) error {
	s, err := snapshot.Load(ctx, r.store, r.sealer, r.manifest, nil)
	if err != nil {
		return err
	}
	h, err := newHouse(ctx, houseOptions{journal: r.journal, keys: r.keys, state: s, sessions: r.o.Sessions + requestSessions})
	if err != nil {
		return err
	}
	defer h.stop()
	caller := engine.Caller{Principal: "token:bench", Tenant: journal.TenantID{1}, Label: "bench"}
	ids := make([]journal.SessionID, requestSessions)
	for i := range ids {
		l, err := h.engine.Create(ctx, caller, func(context.Context, *engine.Session) (engine.Opened, error) {
			return engine.Opened{Initialize: []byte(initializeParams), Protocol: "2025-11-25", Upstream: "upstream"}, nil
		})
		if err != nil {
			return err
		}
		ids[i] = l.Session().ID()
		l.Release()
	}
	call := func(i int) error {
		l, err := h.engine.Acquire(ctx, ids[i%len(ids)], caller)
		if err != nil {
			return err
		}
		l.Begin("tools/call", benchTool(i)).End(journal.OutcomeOK)
		l.Release()
		return nil
	}
	alone, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	if out.Request, err = callers(alone, call); err != nil {
		return err
	}
	during, cancel := context.WithCancel(ctx)
	defer cancel()
	var taken error
	var taking sync.WaitGroup
	taking.Go(func() {
		defer cancel()
		for range r.o.Rounds {
			var m *snapshot.Manifest
			m, taken = snapshot.Write(ctx, r.store, r.sealer, h.follower.Freeze(), journal.InstantOf(time.Now()))
			if taken == nil {
				taken = r.store.Delete(ctx, m.ID)
			}
			if taken != nil {
				return
			}
		}
	})
	out.RequestDuring, err = callers(during, call)
	taking.Wait()
	return errors.Join(err, taken)
}

// callers calls until ctx ends and tells how long each took.
func callers(ctx context.Context, call func(int) error) (Sample, error) {
	var (
		mu   sync.Mutex
		all  []time.Duration
		fail error
		wg   sync.WaitGroup
	)
	for n := range requesters {
		wg.Go(func() {
			var mine []time.Duration
			var err error
			for i := n; ctx.Err() == nil && err == nil; i += requesters {
				begin := time.Now()
				err = call(i)
				mine = append(mine, time.Since(begin))
				time.Sleep(requestPause)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			fail = errors.Join(fail, err)
		})
	}
	wg.Wait()
	return spread(all), fail
}

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
