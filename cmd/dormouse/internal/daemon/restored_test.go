package daemon_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

// What was restored, from which snapshot, and what had to be passed over is in /readyz, in the log and in the metrics,
// with the same figures.
func TestTheRestoreIsTold(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	times := func(timeout time.Duration) func(*daemon.Config) {
		return func(c *daemon.Config) { c.Store.Dir, c.SessionTimeout = dir, timeout }
	}
	t.Run("short sessions", func(t *testing.T) {
		r := run(t, times(time.Millisecond))
		r.mcp("", initialize)
	})
	t.Run("others", func(t *testing.T) {
		r := run(t, times(time.Hour))
		r.mcp("", initialize)
		r.mcp("", initialize)
		client, err := control.Connect(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := client.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.mcp("", initialize)
		}
	})
	paths, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "DORMOUSE_SNAPSHOTS", "msgs", "*.blk"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)*72/100] ^= 4
	if err := os.WriteFile(paths[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	var log notes
	r := run(t, func(c *daemon.Config) {
		times(time.Hour)(c)
		c.Logger = zerolog.New(&log)
		c.Store.Logger = c.Logger
	})
	status, text, _ := r.ask(http.MethodGet, "http://"+r.status.Listen+"/readyz", "", nil)
	var x struct{ Restore store.Restoration }
	if err := json.Unmarshal([]byte(text), &x); err != nil || status != http.StatusOK {
		t.Fatal(status, text)
	}
	got := &x.Restore
	if got.Snapshot == nil || got.Snapshot.Sessions == 0 || len(got.PassedOver) != 1 || got.PassedOver[0].Why == "" || got.Restored != 4 {
		t.Errorf("/readyz says %s", text)
	}
	_, page := r.admin(http.MethodGet, "/metrics", "")
	for _, want := range []string{
		`dormouse_start_sessions{result="restored"} 4`, `dormouse_start_sessions{result="damaged"} 0`,
		"dormouse_snapshots_passed_over 1", "dormouse_start_batches_lost 0", "dormouse_start_events_skipped 0",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, want := range []string{got.PassedOver[0].ID, got.Snapshot.ID, `"snapshotsPassedOver":1`, `"sessions":4`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

// notes is a log that can be read while it is written.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}
