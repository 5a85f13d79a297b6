package snapshot_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

var _ journaltest.SnapshotStore = snapshot.Store(nil)

// What stands behind the right key may still be junk, one day: no reader may panic or take memory without bound.
func FuzzChunk(f *testing.F) {
	meta, refs, bodies := snapshot.Parts(sample(f).Freeze())
	f.Add(byte(2), meta, refs, bodies)
	f.Add(byte(1), meta, []byte{}, append(refs, bodies...))
	f.Add(byte(2), []byte{2, 0}, []byte{}, []byte{})
	f.Add(byte(2), []byte{3, 1}, []byte{}, make([]byte, 60))
	f.Fuzz(func(_ *testing.T, version byte, meta, refs, bodies []byte) {
		_ = snapshot.DecodeParts(version, meta, refs, bodies)
		_ = snapshot.ParseSecrets(meta)
		_, _ = snapshot.ParseManifest(meta)
	})
}

// The golden files are snapshots as former releases wrote them, unsealed. They stay readable for ever.
func TestGolden(t *testing.T) {
	s := sample(t)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		writeGolden(t, filepath.Join("testdata", "v2"), s)
	}
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) { readGolden(t, filepath.Join("testdata", version), s) })
	}
}

func readGolden(t *testing.T, dir string, s *replay.State) {
	t.Helper()
	var st memory.Snapshots
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest"))
	must(t, err)
	m, err := snapshot.ParseManifest(manifest)
	must(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "chunk-*"))
	must(t, err)
	for i, name := range files {
		data, err := os.ReadFile(name)
		must(t, err)
		must(t, st.PutChunk(t.Context(), m.ID, i+1, data))
	}
	must(t, snapshot.Verify(t.Context(), &st, plain{}, &m))
	if got := load(t, &st, plain{}, &m); got.Digest() != s.Digest() {
		t.Error("the golden snapshot is another state now")
	}
}

func writeGolden(t *testing.T, dir string, s *replay.State) {
	t.Helper()
	var st memory.Snapshots
	m := write(t, &st, plain{}, s)
	must(t, os.MkdirAll(dir, 0o750))
	var chunks [][]byte
	must(t, st.Chunks(t.Context(), m.ID, func(data []byte) error {
		chunks = append(chunks, data)
		return nil
	}))
	slices.SortFunc(chunks, bytes.Compare)
	for i, data := range chunks {
		must(t, os.WriteFile(filepath.Join(dir, "chunk-"+string(rune('1'+i))), data, 0o600))
	}
	list, err := st.Snapshots(t.Context())
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "manifest"), list[0].Manifest, 0o600))
}

// The fold goes on while snapshots are written: run with -race.
func TestFoldGoesOn(t *testing.T) {
	w := newWorld(t)
	w.puts(300)
	k := w.keeper(snapshot.KeeperOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 10 {
			if _, err := k.Take(ctx); err != nil {
				t.Error(err)
			}
		}
		cancel()
	})
	writer := replaytest.Writer{Journal: w.journal.ID(), ID: journal.WriterID{7}}
	for i := 0; ctx.Err() == nil; i++ {
		e := journal.Event{Kind: journal.KindAccessed, Ref: replaytest.Ref(i % 300), At: journal.InstantOf(time.Now())}
		if i%7 == 0 {
			e = journal.Event{Kind: journal.KindClosed, Ref: replaytest.Ref(i % 300), At: e.At, Reason: journal.ReasonAdmin}
		}
		w.mu.Lock()
		apply(t, w.state, journal.Message{Seq: w.state.Seq() + 1, Time: e.At, Data: writer.Batch(journal.Basis{}, e)})
		w.mu.Unlock()
	}
	wg.Wait()
}
