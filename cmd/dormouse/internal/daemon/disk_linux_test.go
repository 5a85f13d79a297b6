package daemon_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// TestFullDisk fills the disk under a daemon: live sessions go on, new ones are refused with a status that clients try
// again after; a restart changes nothing; and when there is room all is as before, without one.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("NOT POSSIBLE ON THIS MACHINE: mount a small filesystem: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	onDisk := func(c *daemon.Config) { c.Store.Dir = filepath.Join(disk, "data") }
	ballast := filepath.Join(disk, "ballast")
	var session string
	t.Run("filled", func(t *testing.T) {
		r := run(t, func(c *daemon.Config) {
			onDisk(c)
			c.ShutdownTimeout = 100 * time.Millisecond // what waits for room is given up
		})
		_, _, h := r.mcp("", initialize)
		session = h.Get("Mcp-Session-Id")
		if err := os.WriteFile(ballast, make([]byte, 96<<20-jetstream.DefaultMinFree), 0o600); err != nil {
			t.Fatal(err)
		}
		r.refuses(t, "", initialize)
		if status, text, _ := r.mcp(session, listTools); status != http.StatusOK {
			t.Errorf("a call of a live session: %d %s", status, text)
		}
		r.readyz(t, `"journal":"unavailable"`)
		r.loses = true // the call's access
	})
	r := run(t, onDisk)
	r.readyz(t, `"journal":"unavailable"`)
	r.refuses(t, session, listTools) // it cannot wake
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		status, text, _ := r.mcp(session, listTools)
		if status == http.StatusOK {
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("a call: %d %s", status, text)
		}
	}
	if status, text, _ := r.mcp("", initialize); status != http.StatusOK {
		t.Errorf("initialize: %d %s", status, text)
	}
	r.readyz(t, `"journal":"ok"`)
}

// refuses expects a message to be answered 503 with Retry-After.
func (r *running) refuses(t *testing.T, session, message string) {
	t.Helper()
	status, text, h := r.mcp(session, message)
	if status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q: %s", status, h.Get("Retry-After"), text)
	}
	if strings.Contains(text, r.dir) {
		t.Errorf("the answer names a path: %s", text)
	}
}

// readyz expects the daemon to be ready, and part of what it answers.
func (r *running) readyz(t *testing.T, part string) {
	t.Helper()
	status, text, _ := r.ask(http.MethodGet, "http://"+r.status.Listen+"/readyz", "", nil)
	if status != http.StatusOK || !strings.Contains(text, part) {
		t.Errorf("/readyz: %d %s", status, text)
	}
}
