package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats.go"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Store is an open store. Fields are set by Open, the last two by Restore, and not changed after.
type Store struct {
	Journal  *jetstream.Journal
	KeysMade string        // where the keyring was just made; empty if it was there
	Fresh    bool          // the journal was just made
	Opener   replay.Opener // of this journal's batches
	Vault    *seal.Vault

	Committer *commit.Committer
	Follower  *replay.Follower

	o        Options
	lock     *flock.Flock      // held here with a NATS of the operator's; else the server holds it
	server   *jetstream.Server // nil with a NATS of the operator's
	nc       *nats.Conn
	follower atomic.Pointer[replay.Follower] // for the committer's basis, which may ask before Restore is done
	keys     keys

	snapshots snapshots
	guard     guard
	promise   jetstream.Promise // of a NATS of the operator's
}

// Open takes the folder's lock and opens keyring and journal. The caller closes the store.
func Open(ctx context.Context, o Options) (s *Store, err error) {
	if err := checkKeyFile(&o); err != nil {
		return nil, err
	}
	if err := o.fill(); err != nil {
		return nil, err
	}
	if err := prepareFolder(o.Dir, o.Create); err != nil {
		return nil, err
	}
	s = &Store{o: o}
	opened := time.Now()
	defer func() {
		if err != nil {
			_ = s.Close(context.WithoutCancel(ctx))
		}
	}()
	if err := s.connect(); err != nil {
		return s, err
	}
	if err := s.patiently(ctx, s.openJournal); err != nil {
		return s, err
	}
	if err := s.patiently(ctx, s.openKeys); err != nil {
		return s, err
	}
	s.keys.opener = seal.NewBatchOpener(s.Keyring())
	s.Opener = opener{s}
	s.Vault = seal.NewVault(s.Keyring(), s.Journal.Keys())
	s.Vault.ConsultErased(s.erased)
	if err := s.patiently(ctx, s.openSnapshots); err != nil {
		return s, err
	}
	if err := s.patiently(ctx, func(ctx context.Context) error { return s.openMarks(ctx, s.o.Create) }); err != nil {
		return s, err
	}
	if err := s.patiently(ctx, s.askPromise); err != nil {
		return s, err
	}
	if err := s.revive(ctx); err != nil || !s.o.Create {
		return s, err
	}
	return s, s.patiently(ctx, func(ctx context.Context) error { return s.tellRenewals(ctx, opened) })
}

func (s *Store) connect() (err error) {
	if err := s.checkPlace(); err != nil {
		return err
	}
	if s.o.NATSURL != "" {
		return s.connectNATS()
	}
	server := jetstream.ServerOptions{Dir: s.o.Dir, Mend: s.o.AcceptLoss, MinFree: s.o.MinFree, Logger: s.o.Logger}
	if s.clustered() {
		if err := s.joinCluster(&server); err != nil {
			return err
		}
	}
	s.server, err = jetstream.StartServer(server)
	if errors.Is(err, jetstream.ErrLocked) {
		return inUse(s.o.Dir)
	}
	if err != nil {
		return err
	}
	s.nc, err = s.server.Connect()
	return err
}

func (s *Store) connectNATS() (err error) {
	// The folder still holds this replica's socket and keyring: it has one owner too.
	s.lock = flock.New(filepath.Join(s.o.Dir, "lock"))
	if got, err := s.lock.TryLock(); err != nil || !got {
		s.lock = nil
		return errors.Join(err, inUse(s.o.Dir))
	}
	s.nc, err = jetstream.Connect(s.o.NATSURL, jetstream.ConnectOptions{
		Name: natsName(s.o.Replica), CredentialsFile: s.o.NATSCreds, NKeyFile: s.o.NATSNKey,
		RootCAs: s.o.NATSCA, CertFile: s.o.NATSCert, KeyFile: s.o.NATSCertKey, Logger: s.o.Logger,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", redacted(s.o.NATSURL), err)
	}
	return nil
}

// openJournal opens the journal, or makes it if this folder never had one.
func (s *Store) openJournal(ctx context.Context) error {
	had, mark, err := hadJournal(s.o.Dir)
	if err != nil {
		return err
	}
	s.Fresh = s.o.Create && had == journal.ID{}
	o := jetstream.Options{Prefix: s.o.Prefix, Replicas: s.o.Replicas, Create: s.Fresh, Logger: s.o.Logger}
	if s.server != nil {
		o.Guard = s.server.Guard()
	}
	s.Journal, err = jetstream.Open(ctx, s.nc, o)
	if err != nil {
		err = s.openGone(ctx, o, had, mark, err)
	}
	if err != nil {
		return err
	}
	if had != (journal.ID{}) && had != s.Journal.ID() {
		return fmt.Errorf("%w: this folder's journal is %s, the stream's is %s", ErrOtherJournal, had, s.Journal.ID())
	}
	return nil
}

// openKeys loads the keyring. One is made only for a journal in which nothing is stored yet.
func (s *Store) openKeys(ctx context.Context) error {
	bounds, err := s.Journal.Bounds(ctx)
	if err != nil {
		return err
	}
	s.Fresh = bounds.Last == 0 && !s.guard.renewed
	if s.o.NoKeys {
		s.keys.ring.Store(seal.GenerateKeyring()) // opens nothing
		return s.keepID()
	}
	if s.o.Keys != "" {
		k, err := ParseEnvironment(s.o.Keys)
		if err != nil {
			return err
		}
		s.keys.ring.Store(k)
		return s.keepID()
	}
	k, made, err := seal.LoadOrCreate(s.o.KeyFile, s.o.Create && s.Fresh)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s holds %d batches, and there is no %s", ErrNoKeys, "the journal", bounds.Last, s.o.KeyFile)
	}
	if err != nil {
		return err
	}
	s.keys.ring.Store(k)
	if made {
		s.KeysMade = s.o.KeyFile
	}
	return s.keepID()
}

func (s *Store) keepID() error {
	if err := s.keepPlace(); err != nil {
		return err
	}
	had, err := ReadJournalID(s.o.Dir)
	if err != nil || had == s.Journal.ID() {
		return err
	}
	return keepJournalID(s.o.Dir, s.Journal.ID())
}

// Restore starts the committer, as a new writer, and folds the journal up to its end. It returns when the state is
// complete; the follower then goes on.
func (s *Store) Restore(ctx context.Context) error {
	w := journal.NewWriterID()
	encoder, err := seal.NewBatchSealer(s.Keyring(), w)
	if err != nil {
		return err
	}
	s.keys.sealer = encoder
	o := commit.Options{
		Port: s.Journal, Encoder: encoder, Journal: s.Journal.ID(), Writer: w, Basis: s.basis,
		Logger: s.o.Logger, Observer: s.o.Observer,
	}
	if s.Journal.Replicated() {
		waitOutElections(&o)
	}
	s.Committer, err = commit.New(o) //nolint:contextcheck // it outlives the restore
	if err != nil {
		return err
	}
	err = s.patiently(ctx, s.follow)
	if damaged(err) {
		err = s.overcome(ctx, err)
	}
	if err != nil {
		return err
	}
	if err := s.checkNaming(ctx); err != nil {
		return err
	}
	s.follower.Store(s.Follower)
	if s.o.Create {
		if err := s.tellLosses(ctx); err != nil {
			return err
		}
	}
	s.startMarker() //nolint:contextcheck // it outlives the restore
	return nil
}

// waitOutElections lets callers wait until another server leads the stream when the one that did is gone. Whoever is asked
// meanwhile refuses at once, or never answers.
func waitOutElections(o *commit.Options) {
	o.Patience, o.MaxWait = jetstream.ElectionPatience, jetstream.ElectionPatience
	o.AttemptTimeout, o.MaxRetry = 2*time.Second, 250*time.Millisecond
}

// Durability says in words when an event counts as stored.
func (s *Store) Durability() string {
	if s.clustered() {
		return "embedded JetStream cluster " + s.o.Cluster.Name + ": " + s.promise.String()
	}
	if s.server != nil {
		return "embedded JetStream, fsync on every commit"
	}
	return "NATS at " + redacted(s.o.NATSURL) + ": " + s.promise.String()
}

// Writable says why nothing can be appended now; nil if it can. Only after Restore.
func (s *Store) Writable() error {
	if s.server != nil {
		if err := s.server.Guard().Admit(0); err != nil {
			return err
		}
	}
	return s.Committer.Stats().Down
}

func (s *Store) basis() journal.Basis {
	f := s.follower.Load()
	if f == nil {
		return journal.Basis{}
	}
	select {
	case <-f.Done(): // what it had folded may not be what others fold
		return journal.Basis{}
	default:
		return f.Basis()
	}
}

// Close stores what waits in the committer, until ctx ends, then stops the follower, the connection and the embedded
// server, in that order, and gives the lock back. It may be called on a store that was never restored.
func (s *Store) Close(ctx context.Context) error {
	var errs []error
	if s.Committer != nil {
		errs = append(errs, s.Committer.Close(ctx))
	}
	if s.Follower != nil {
		s.closeMarker(ctx)
		errs = append(errs, s.Follower.Close())
	}
	s.handOver(ctx)
	if s.nc != nil {
		s.nc.Close()
	}
	if s.server != nil {
		s.server.Shutdown()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}
