package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// A stream that was gone and was made anew is named at the start that does it, at later ones, and by verify; one
// that was always there is not.
func TestRenewedStreamsAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(sc *scene)
		want   string // the stream; empty: none
		before string // what verify notes before the start
		accept bool
	}{
		"nothing":             {damage: func(*scene) {}},
		"batches' definition": {damage: func(sc *scene) { sc.flip("DORMOUSE_BATCHES", "meta.inf", 0.5) }, want: "DORMOUSE_BATCHES", accept: true},
		"keys' definition":    {damage: func(sc *scene) { sc.flip("DORMOUSE_KEYS", "meta.inf", 0.5) }, want: "DORMOUSE_KEYS", accept: true},
		"marks' definition":   {damage: func(sc *scene) { sc.flip("DORMOUSE_MARKS", "meta.inf", 0.5) }, want: "DORMOUSE_MARKS", before: "no stream of marks"},
		"marks gone": {damage: func(sc *scene) {
			_ = os.RemoveAll(filepath.Dir(sc.file("DORMOUSE_MARKS", "meta.inf")))
		}, want: "DORMOUSE_MARKS", before: "no stream of marks"},
		"snapshots' definition": {damage: func(sc *scene) { sc.flip("DORMOUSE_SNAPSHOTS", "meta.inf", 0.5) }, want: "DORMOUSE_SNAPSHOTS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc := newScene(t)
			sc.snapshot()
			c.damage(sc)
			if notes := strings.Join(sc.verify().Notes, "\n"); !strings.Contains(notes, c.before) || c.before == "" && notes != "" {
				t.Errorf("at first verify notes %q", notes)
			}
			for i := range 2 {
				var log bytes.Buffer
				s := open(t, store.Options{
					Dir: sc.dir, Create: true, Replica: "r1", AcceptLoss: c.accept,
					Logger: zerolog.New(zerolog.SyncWriter(&log)).Level(zerolog.InfoLevel),
				})
				if _, err := s.KeepSnapshots(t.Context(), snapshot.KeeperOptions{}); err != nil {
					t.Fatal(err)
				}
				r, err := s.Verify(t.Context(), store.VerifyOptions{})
				if err != nil || !r.Whole() {
					t.Errorf("%v, %s", err, faults(r))
				}
				closeStore(t, s)
				notes := strings.Join(r.Notes, "\n")
				for where, text := range map[string]string{"log": log.String(), "verify": notes} {
					if where == "log" && i == 0 && c.want == "DORMOUSE_SNAPSHOTS" {
						continue // made when they are first kept
					}
					if named := strings.Contains(text, "stream "+c.want+" was gone, and was made anew"); named != (c.want != "") {
						t.Errorf("start %d: %s has %q", i+1, where, text)
					}
				}
			}
		})
	}
}
