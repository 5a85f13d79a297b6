package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// JournalOptions says where the journal is. Data must be set.
type JournalOptions struct {
	// Data is a folder of this process alone: the keyring, which is made at the first start and is to be backed up,
	// and the journal itself unless NATSURL is set. It is made if it is not there.
	Data string

	NATSURL   string // a NATS with JetStream that keeps the journal; empty = the embedded one, fsynced at every commit
	NATSCreds string // credentials file for it; empty = none

	// Replica names this process in the journal, and must be another name than every other replica's; empty = the
	// host's.
	Replica journal.ReplicaID

	// Retention is how long history is kept beyond what the sessions need; 0 = 30 days, negative = for ever.
	Retention time.Duration

	Logger zerolog.Logger
}

func (o *JournalOptions) complete() error {
	if o.Data == "" {
		return errors.New("durable options: Data must be set")
	}
	if o.Replica == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("durable options: Replica is not set, and the host has no name: %w", err)
		}
		o.Replica = journal.ReplicaID(host)
	}
	switch {
	case o.Retention == 0:
		o.Retention = 30 * 24 * time.Hour
	case o.Retention < 0:
		o.Retention = 0
	}
	return nil
}

// Journal is an open journal with its keys and its folded state. Safe for concurrent use.
type Journal struct {
	o      JournalOptions
	store  *store.Store
	stop   context.CancelFunc
	keeper sync.WaitGroup
}

// OpenJournal opens the journal, or makes it, and folds it: when it returns, every session that was ever acknowledged
// and has not ended is there. It fails rather than with fewer: what is damaged or missing is named in the error, and
// `dormouse verify` and `dormouse serve --accept-loss` are the ways on. Close must be called in the end.
func OpenJournal(ctx context.Context, o JournalOptions) (*Journal, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Options{
		Dir: o.Data, Create: true, NATSURL: o.NATSURL, NATSCreds: o.NATSCreds, Replica: o.Replica, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	j := &Journal{o: o, store: s, stop: func() {}}
	if err := j.restore(ctx); err != nil {
		return nil, errors.Join(err, j.Close(context.WithoutCancel(ctx)))
	}
	return j, nil
}

func (j *Journal) restore(ctx context.Context) error {
	if err := j.store.Restore(ctx); err != nil {
		return err
	}
	if _, err := j.store.ResolveOrphans(ctx); err != nil {
		return err
	}
	if err := j.note(ctx, journal.KindReplicaStarted); err != nil {
		return err
	}
	keeper, err := j.store.KeepSnapshots(ctx, snapshot.KeeperOptions{Retention: j.o.Retention})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	j.stop = stop
	j.keeper.Go(func() { keeper.Run(running) })
	j.keeper.Go(func() { j.tend(running) })
	return nil
}

// tend ends what interrupted rotations and erasures have left.
func (j *Journal) tend(ctx context.Context) {
	_, err := j.store.ResumeErasures(ctx)
	_, err2 := j.store.ResumeKeys(ctx)
	if err = errors.Join(err, err2); err != nil && ctx.Err() == nil {
		j.o.Logger.Error().Err(err).Msg("an erasure or a rotation was interrupted, and cannot go on")
	}
}

// note appends an event for the record about this replica.
func (j *Journal) note(ctx context.Context, k journal.Kind) error {
	n := &journal.Note{Replica: j.o.Replica}
	if k == journal.KindReplicaStarted {
		n.Version, n.Kinds = "library", journal.LastKind
	}
	_, err := j.store.Committer.Append(ctx, journal.Event{Kind: k, At: journal.InstantOf(time.Now()), Note: n})
	if err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	return nil
}

// Parts returns what an engine and a gateway need of the journal.
func (j *Journal) Parts() Parts {
	return Parts{
		Replica: j.o.Replica, Appender: j.store.Committer, Table: j.store.Follower, Vault: j.store.Vault,
		Name: func(domain string, parts ...string) [16]byte { return j.store.Keyring().Name(domain, parts...) },
	}
}

// Engine returns an engine on the journal. Its Shutdown must be called before Close. What o leaves out of Replica,
// Appender, Table and Vault is the journal's.
func (j *Journal) Engine(o engine.Options) (*engine.Engine, error) {
	return engine.New(j.Parts().fill(o))
}

// Done is closed when the journal can no longer be read: then Err says why, and only a new process helps.
func (j *Journal) Done() <-chan struct{} { return j.store.Follower.Done() }

// Err says why Done is closed.
func (j *Journal) Err() error { return j.store.Follower.Err() }

// Close stores what waits, until ctx ends, and gives the folder back. None of that is needed to keep the sessions: what
// has been acknowledged is durable.
func (j *Journal) Close(ctx context.Context) error {
	j.stop()
	j.keeper.Wait()
	var err error
	if j.store.Follower != nil {
		err = j.note(ctx, journal.KindReplicaStopped)
	}
	return errors.Join(err, j.store.Close(ctx))
}
