package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// snapshot takes one of all that is there, and then begins one more session.
func (sc *scene) snapshot() {
	sc.t.Helper()
	s := open(sc.t, store.Options{Dir: sc.dir, Create: true, Replica: "r1"})
	defer closeStore(sc.t, s)
	k, err := s.KeepSnapshots(sc.t.Context(), snapshot.KeeperOptions{})
	if err == nil {
		_, err = k.Take(sc.t.Context())
	}
	if err != nil {
		sc.t.Fatal(err)
	}
	begin(sc.t, s, journal.TenantID{1}, "tenant")
}

// What a snapshot holds is not lost with the stream in front of it.
func TestDamageWithSnapshot(t *testing.T) {
	t.Parallel()
	const all = 2*sessionsEach + 1
	for name, c := range map[string]struct {
		damage  func(sc *scene)
		want    string
		refused bool
		kept    int
		left    string // what verify still names afterwards
	}{
		"in front of it":         {func(sc *scene) { sc.flip("DORMOUSE_BATCHES", "msgs/*.blk", 0.3) }, "missing message 4", false, all, "missing message 4"},
		"in front, then a crash": {func(sc *scene) { sc.flip("DORMOUSE_BATCHES", "msgs/*.blk", 0.3); sc.remove("jetstream.clean") }, "missing message 4", true, all, "missing message 4"},
		"behind it":              {func(sc *scene) { sc.flip("DORMOUSE_BATCHES", "msgs/*.blk", 0.98) }, "ends-early message 11", true, all - 1, ""},
		"stream gone": {func(sc *scene) {
			_ = os.RemoveAll(filepath.Dir(sc.file("DORMOUSE_BATCHES", "meta.inf")))
		}, "gone the store, ends-early message 11", true, all - 1, ""},
		"snapshots gone": {func(sc *scene) {
			_ = os.RemoveAll(filepath.Dir(sc.file("DORMOUSE_SNAPSHOTS", "meta.inf")))
		}, "", false, all, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t)
			sc.snapshot()
			c.damage(sc)
			if got := faults(sc.verify()); got != c.want {
				t.Errorf("verify names %q, want %q", got, c.want)
			}
			n, err := sc.start(false)
			if refused := err != nil; refused != c.refused || !refused && n != c.kept {
				t.Fatalf("a start gives %d sessions and %v", n, err)
			}
			if c.refused {
				if n, err = sc.start(true); err != nil || n != c.kept {
					t.Fatalf("accepted, there are %d sessions, want %d: %v", n, c.kept, err)
				}
			}
			if n, err = sc.start(false); err != nil || n != c.kept {
				t.Errorf("afterwards there are %d sessions, want %d: %v", n, c.kept, err)
			}
			if got := faults(sc.verify()); got != c.left {
				t.Errorf("afterwards verify names %q, want %q", got, c.left)
			}
		})
	}
}
