package store_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

// A damaged snapshot is passed over by name for the older one, and both for the whole journal; it never stops a start,
// not after a crash either, and verify names it.
func TestDamagedSnapshotsArePassedOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage []float64 // places in the snapshots' block
		passed int
		cut    bool
		loaded bool // from the older one
	}{
		"the newest":  {damage: []float64{0.72}, passed: 1, loaded: true},
		"both":        {damage: []float64{0.2, 0.72}, passed: 2},
		"the older":   {damage: []float64{0.2}, loaded: true},
		"the file":    {cut: true},
		"no snapshot": {},
	} {
		for _, crashed := range []string{"", ", then a crash"} {
			t.Run(name+crashed, func(t *testing.T) {
				t.Parallel()
				sc := newScene(t)
				if name != "no snapshot" {
					sc.snapshot()
					sc.snapshot()
				}
				for _, place := range c.damage {
					sc.flip("DORMOUSE_SNAPSHOTS", "msgs/*.blk", place)
				}
				if c.cut {
					_ = os.Truncate(sc.file("DORMOUSE_SNAPSHOTS", "msgs/*.blk"), 100)
				}
				if crashed != "" {
					sc.remove("jetstream.clean", "jetstream/$G/streams/DORMOUSE_SNAPSHOTS/msgs/index.db")
				}
				r := sc.verify()
				if notes := strings.Count(strings.Join(r.Notes, "\n"), "cannot be used"); !r.Whole() || len(c.damage) != notes {
					t.Errorf("verify says %s, %v", r.Verdict, r.Notes)
				}
				var log bytes.Buffer
				s := open(t, store.Options{Dir: sc.dir, Create: true, Logger: zerolog.New(zerolog.SyncWriter(&log))})
				defer closeStore(t, s)
				x := s.Restoration(time.Now())
				want := 2 * sessionsEach
				if name != "no snapshot" {
					want += 2
				}
				if x.Restored != want || len(x.PassedOver) != c.passed || (x.Snapshot != nil) != c.loaded {
					t.Errorf("%+v", x)
				}
				if later := s.Restoration(time.Now().Add(2 * time.Hour)); later.Expired != want || later.Restored != 0 {
					t.Errorf("two hours later %+v", later)
				}
				for _, p := range x.PassedOver {
					if p.Why == "" || !strings.Contains(log.String(), p.ID) {
						t.Errorf("%+v is not in the log: %s", p, &log)
					}
				}
			})
		}
	}
}
