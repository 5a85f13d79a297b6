package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

func open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err == nil {
		err = s.Restore(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// started appends an event for the record.
func started(t *testing.T, s *store.Store) {
	t.Helper()
	at, err := s.Committer.Append(t.Context(), journal.Event{
		Kind: journal.KindReplicaStarted, At: journal.InstantOf(time.Now()), Note: &journal.Note{Replica: "test"},
	})
	if err == nil {
		err = s.Follower.WaitFor(t.Context(), at.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func events(s *store.Store) (n uint64) {
	s.Follower.View(func(st *replay.State) { n = st.Stats().Events })
	return n
}

func TestOpenAgain(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: filepath.Join(t.TempDir(), "new", "data"), Create: true}
	s := open(t, o)
	if !s.Fresh || s.KeysMade == "" {
		t.Errorf("first start: fresh %v, keys %q", s.Fresh, s.KeysMade)
	}
	started(t, s)
	_, err := store.Open(t.Context(), o)
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("second open: %v", err)
	}
	if err := store.Claimable(o.Dir); !errors.Is(err, store.ErrInUse) {
		t.Errorf("claimable while open: %v", err)
	}
	closeStore(t, s)
	if err := store.Claimable(o.Dir); err != nil {
		t.Errorf("claimable when closed: %v", err)
	}
	o.Create = false
	s = open(t, o)
	defer closeStore(t, s)
	if s.Fresh || s.KeysMade != "" || events(s) != 1 {
		t.Errorf("second start: fresh %v, keys %q, %d events", s.Fresh, s.KeysMade, events(s))
	}
	info, err := os.Stat(o.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestNothingIsMadeWithoutCreate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := store.Open(t.Context(), store.Options{Dir: dir}); !errors.Is(err, store.ErrNoFolder) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{Dir: dir}); !errors.Is(err, store.ErrNoFolder) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("keys were made: %v", err)
	}
}

func TestKeysFromTheEnvironment(t *testing.T) {
	t.Parallel()
	text := string(seal.GenerateKeyring().Text())
	o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true, Keys: text}
	s := open(t, o)
	started(t, s)
	closeStore(t, s)
	if _, err := os.Stat(filepath.Join(o.Dir, "keys")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file was made: %v", err)
	}
	o.Keys = string(seal.GenerateKeyring().Text())
	s, err := store.Open(t.Context(), o)
	if err == nil {
		err = s.Restore(t.Context())
		closeStore(t, s)
	}
	if !errors.Is(err, journal.ErrKeyMissing) && !errors.Is(err, journal.ErrWrongKey) {
		t.Errorf("other keys: %v", err)
	}
	o.Keys = "nonsense"
	if _, err := store.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "DORMOUSE_KEYS") {
		t.Errorf("no keys: %v", err)
	}
}

// natsServer starts a NATS server that is not ours and returns its address.
func natsServer(t *testing.T) string {
	t.Helper()
	n, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() })
	if !n.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS is not ready")
	}
	return n.ClientURL()
}

// TestNATS keeps the journal in a server that is not ours: two folders share it, one after the other.
func TestNATS(t *testing.T) {
	t.Parallel()
	url := natsServer(t)
	o := store.Options{Dir: t.TempDir(), Create: true, NATSURL: url}
	s := open(t, o)
	if _, err := store.Open(t.Context(), o); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a second replica in one folder: %v", err)
	}
	started(t, s)
	closeStore(t, s)

	// Another folder without the keyring: it cannot read the journal, and makes no keys of its own.
	other := store.Options{Dir: t.TempDir(), Create: true, NATSURL: url}
	if _, err := store.Open(t.Context(), other); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, store.ErrNoKeys) {
		t.Errorf("without the keyring: %v", err)
	}
	other.KeyFile = filepath.Join(o.Dir, "keys")
	s = open(t, other)
	defer closeStore(t, s)
	if events(s) != 1 || s.Fresh {
		t.Errorf("%d events, fresh %v", events(s), s.Fresh)
	}
}
