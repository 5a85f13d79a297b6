package journaltest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
)

// SnapshotStore is what keeps snapshots: snapshot.Store.
type SnapshotStore interface {
	PutChunk(ctx context.Context, id journal.SnapshotID, number int, data []byte) error
	PutManifest(ctx context.Context, id journal.SnapshotID, data []byte) error
	Snapshots(ctx context.Context) ([]journal.StoredSnapshot, error)
	Chunks(ctx context.Context, id journal.SnapshotID, fn func(data []byte) error) error
	Delete(ctx context.Context, id journal.SnapshotID) error
}

// RunSnapshots holds a store against the laws of snapshot.Store. fresh returns an empty one for each law, and how to
// restart it, or nil.
func RunSnapshots(t *testing.T, fresh func(t *testing.T) (SnapshotStore, func(t *testing.T) SnapshotStore)) {
	t.Helper()
	for _, law := range []struct {
		name string
		hold func(*testing.T, SnapshotStore, func(*testing.T) SnapshotStore)
	}{
		{"chunks come back", chunksComeBack},
		{"a manifest completes", manifestCompletes},
		{"delete removes one alone", deleteRemovesOne},
		{"an error ends the reading", errorEndsReading},
		{"large chunks", largeChunks},
	} {
		t.Run(law.name, func(t *testing.T) {
			st, restart := fresh(t)
			law.hold(t, st, restart)
		})
	}
}

// chunksOf returns the snapshot's chunks, sorted.
func chunksOf(t *testing.T, st SnapshotStore, id journal.SnapshotID) (list [][]byte) {
	t.Helper()
	must(t, st.Chunks(within(t), id, func(data []byte) error {
		list = append(list, data)
		return nil
	}))
	slices.SortFunc(list, bytes.Compare)
	return list
}

func sameChunks(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// putChunks stores chunks at once and returns them, sorted.
func putChunks(t *testing.T, st SnapshotStore, id journal.SnapshotID, n, size int) [][]byte {
	t.Helper()
	var list [][]byte
	var wg sync.WaitGroup
	for i := range n {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		list = append(list, data)
		wg.Go(func() {
			if err := st.PutChunk(within(t), id, i+1, data); err != nil {
				t.Errorf("chunk %d: %v", i+1, err)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(list, bytes.Compare)
	return list
}

func chunksComeBack(t *testing.T, st SnapshotStore, restart func(*testing.T) SnapshotStore) {
	a, b := journal.NewSnapshotID(), journal.NewSnapshotID()
	first, second := putChunks(t, st, a, 20, 1000), putChunks(t, st, b, 3, 10)
	if restart != nil {
		st = restart(t)
	}
	if !sameChunks(chunksOf(t, st, a), first) || !sameChunks(chunksOf(t, st, b), second) {
		t.Error("other chunks came back")
	}
	if got := chunksOf(t, st, journal.NewSnapshotID()); len(got) != 0 {
		t.Errorf("%d chunks of a snapshot that was never written", len(got))
	}
}

func manifestCompletes(t *testing.T, st SnapshotStore, _ func(*testing.T) SnapshotStore) {
	id, other := journal.NewSnapshotID(), journal.NewSnapshotID()
	wantSnapshots(t, st, map[journal.SnapshotID]string{})
	putChunks(t, st, id, 2, 10)
	putChunks(t, st, other, 1, 10)
	wantSnapshots(t, st, map[journal.SnapshotID]string{id: "", other: ""})
	must(t, st.PutManifest(within(t), id, []byte("manifest")))
	wantSnapshots(t, st, map[journal.SnapshotID]string{id: "manifest", other: ""})
	if n := len(chunksOf(t, st, id)); n != 2 {
		t.Errorf("%d chunks, want 2", n)
	}
}

func wantSnapshots(t *testing.T, st SnapshotStore, want map[journal.SnapshotID]string) {
	t.Helper()
	list, err := st.Snapshots(within(t))
	must(t, err)
	if len(list) != len(want) {
		t.Errorf("%d snapshots, want %d", len(list), len(want))
	}
	for _, x := range list {
		if manifest, ok := want[x.ID]; !ok || string(x.Manifest) != manifest || x.Stored == 0 {
			t.Errorf("snapshot %v, stored %v, manifest %q, want %q", x.ID, x.Stored, x.Manifest, manifest)
		}
	}
}

func deleteRemovesOne(t *testing.T, st SnapshotStore, _ func(*testing.T) SnapshotStore) {
	id, other := journal.NewSnapshotID(), journal.NewSnapshotID()
	for _, x := range []journal.SnapshotID{id, other} {
		putChunks(t, st, x, 2, 10)
		must(t, st.PutManifest(within(t), x, []byte("manifest")))
	}
	for range 2 {
		must(t, st.Delete(within(t), id))
		wantSnapshots(t, st, map[journal.SnapshotID]string{other: "manifest"})
	}
	if len(chunksOf(t, st, id)) != 0 || len(chunksOf(t, st, other)) != 2 {
		t.Error("other chunks were deleted than those of the snapshot")
	}
}

func errorEndsReading(t *testing.T, st SnapshotStore, _ func(*testing.T) SnapshotStore) {
	id, enough := journal.NewSnapshotID(), errors.New("enough")
	putChunks(t, st, id, 5, 10)
	calls := 0
	err := st.Chunks(within(t), id, func([]byte) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := st.PutChunk(ctx, id, 9, []byte("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func largeChunks(t *testing.T, st SnapshotStore, _ func(*testing.T) SnapshotStore) {
	id := journal.NewSnapshotID()
	list := putChunks(t, st, id, 40, 500<<10)
	big := journal.NewSnapshotID()
	bigger := putChunks(t, st, big, 2, 3<<20)
	if !sameChunks(chunksOf(t, st, id), list) || !sameChunks(chunksOf(t, st, big), bigger) {
		t.Error("other chunks came back")
	}
}
