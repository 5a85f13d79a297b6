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

// TestFullDisk fills the disk under a daemon: sessions go on, new ones are refused with a status that clients try again
// after, and when there is room all is as before, without a restart.
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
	r := run(t, func(c *daemon.Config) { c.Store.Dir = filepath.Join(disk, "data") })
	status, _, h := r.mcp("", initialize)
	session := h.Get("Mcp-Session-Id")
	if status != http.StatusOK || session == "" {
		t.Fatalf("initialize: %d", status)
	}
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 96<<20-jetstream.DefaultMinFree), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	status, text, h := r.mcp("", initialize)
	if status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || time.Since(began) > 5*time.Second {
		t.Errorf("initialize: %d after %v, Retry-After %q: %s", status, time.Since(began), h.Get("Retry-After"), text)
	}
	if strings.Contains(text, disk) {
		t.Errorf("the answer names a path: %s", text)
	}
	if status, text, _ := r.mcp(session, listTools); status != http.StatusOK {
		t.Errorf("a call of a session: %d %s", status, text)
	}
	r.readyz(t, `"journal":"unavailable"`)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for began = time.Now(); ; <-time.After(20 * time.Millisecond) {
		if status, text, _ = r.mcp("", initialize); status == http.StatusOK {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("initialize: %d %s", status, text)
		}
	}
	r.readyz(t, `"journal":"ok"`)
}

// readyz expects the daemon to be ready, and part of what it answers.
func (r *running) readyz(t *testing.T, part string) {
	t.Helper()
	status, text, _ := r.ask(http.MethodGet, "http://"+r.status.Listen+"/readyz", "", nil)
	if status != http.StatusOK || !strings.Contains(text, part) {
		t.Errorf("/readyz: %d %s", status, text)
	}
}
