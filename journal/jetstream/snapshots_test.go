package jetstream_test

import (
	"errors"
	"testing"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

func TestSnapshotLaws(t *testing.T) {
	open := func(t *testing.T, e *embedded) journaltest.SnapshotStore {
		t.Helper()
		s, err := e.OpenSnapshots(t.Context(), 1, true)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	journaltest.RunSnapshots(t, func(t *testing.T) (journaltest.SnapshotStore, func(*testing.T) journaltest.SnapshotStore) {
		t.Helper()
		e := start(t, t.TempDir())
		return open(t, e), func(t *testing.T) journaltest.SnapshotStore {
			t.Helper()
			e.stop()
			return open(t, start(t, e.dir))
		}
	})
}

// A journal is not made anew where snapshots of a former one are left: they are all that is left of its sessions.
func TestSnapshotsAreLeft(t *testing.T) {
	e := start(t, t.TempDir())
	if _, err := e.OpenSnapshots(t.Context(), 1, false); !errors.Is(err, journal.ErrNoMessage) {
		t.Errorf("without a stream: %v", err)
	}
	s, err := e.OpenSnapshots(t.Context(), 1, true)
	if err == nil {
		err = s.PutManifest(t.Context(), journal.NewSnapshotID(), []byte("manifest"))
	}
	if err != nil {
		t.Fatal(err)
	}
	client, err := js.New(e.nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{"DORMOUSE_BATCHES", "DORMOUSE_KEYS"} {
		if err := client.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := jetstream.Open(t.Context(), e.nc, jetstream.Options{Create: true}); !errors.Is(err, jetstream.ErrNoJournal) {
		t.Errorf("made anew: %v", err)
	}
}
