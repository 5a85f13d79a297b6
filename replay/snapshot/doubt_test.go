package snapshot_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// A good snapshot is used although the stream's leader does not know yet that the stream is so long; if no other one
// says so in time, the stream has lost its end.
func TestStreamThatSeemsToEndBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 20 * time.Second
		w := newWorld(t)
		w.journal.SetPatience(patience)
		k := w.keeper(snapshot.KeeperOptions{})
		w.put()
		w.take(k)
		w.puts(3)
		w.take(k)
		o := snapshot.RestoreOptions{Store: w.store, Sealer: w.sealer, Journal: w.journal.ID(), Stream: w.journal}
		w.journal.Depose(2)
		var err error
		o.Bounds, err = w.journal.Bounds(t.Context())
		must(t, err)
		time.AfterFunc(patience-time.Second, w.journal.Elect)
		r, err := snapshot.Restore(t.Context(), o)
		if err != nil || r.State.Digest() != w.state.Digest() || len(r.Passed) != 0 {
			t.Fatalf("restored %+v, %v", r, err)
		}

		w.journal.Shrink(2)
		began := time.Now()
		_, err = snapshot.Restore(t.Context(), o)
		if took := time.Since(began); !errors.Is(err, snapshot.ErrAhead) || !errors.Is(err, journal.ErrDamaged) || took < patience {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// A snapshot that a release with much older rules has taken, or one with newer rules, is passed over by name for the one
// before it, and that for the whole stream. The rules before this release's are read.
func TestOtherFoldVersionsArePassedOver(t *testing.T) {
	const release = 7
	for name, c := range map[string]struct {
		newer, older uint64 // versions of the two snapshots
		passed       int
		used         journal.Seq
	}{
		"this release's":           {newer: release, older: release, used: 4},
		"the one before":           {newer: release - 1, older: release, used: 4},
		"too old":                  {newer: release - 2, older: release, passed: 1, used: 3},
		"too new":                  {newer: release + 1, older: release, passed: 1, used: 3},
		"none":                     {newer: 0, older: release - 1, passed: 1, used: 3},
		"too old, both":            {newer: release - 2, older: 1, passed: 2},
		"too new, then too old":    {newer: release + 1, older: release - 2, passed: 2},
		"good, before one too old": {newer: release, older: 1, used: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			k := w.keeper(snapshot.KeeperOptions{})
			w.puts(3)
			older := w.take(k)
			w.put()
			newer := w.take(k)
			for id, fold := range map[journal.SnapshotID]uint64{older.ID: c.older, newer.ID: c.newer} {
				data, err := snapshot.Refold(stored(t, w.store, id), w.sealer, fold)
				must(t, err)
				w.store.Damage(id, 0, func([]byte) []byte { return data })
			}
			b, err := w.journal.Bounds(t.Context())
			must(t, err)
			r, err := snapshot.RestoreAs(t.Context(), release, snapshot.RestoreOptions{
				Store: w.store, Sealer: w.sealer, Journal: w.journal.ID(), Bounds: b,
			})
			must(t, err)
			if (r.State != nil) != (c.used > 0) || r.State != nil && (r.State.Seq() != c.used || r.Manifest.Seq != c.used) || len(r.Passed) != c.passed {
				t.Fatalf("%+v", r)
			}
			for i, p := range r.Passed {
				want := []snapshot.Report{newer, older}[i]
				if p.ID != want.ID || p.Seq != want.Seq || !errors.Is(p.Err, snapshot.ErrVersion) {
					t.Errorf("passed over: %+v", p)
				}
			}
		})
	}
}
