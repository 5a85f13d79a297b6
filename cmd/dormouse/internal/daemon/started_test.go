package daemon_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
)

// watched is a log in which somebody waits for a line.
type watched struct {
	mu   sync.Mutex
	text bytes.Buffer
	on   map[string]func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	for what, fn := range w.on {
		if bytes.Contains(p, []byte(what)) {
			fn()
		}
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// TestHangupWhileStarting sends SIGHUP to a daemon that is not ready yet: it starts nevertheless, and then reads its
// files again. Not parallel: the signal is the process's.
func TestHangupWhileStarting(t *testing.T) { //nolint:paralleltest // see above
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("alice:"+strings.Repeat("a", 40)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := make(chan struct{})
	log := &watched{on: map[string]func(){
		"listening; not ready yet": func() {
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Error(err)
			}
		},
		"SIGHUP: token file read again": sync.OnceFunc(func() { close(again) }),
	}}
	run(t, func(c *daemon.Config) { c.AuthTokenFile, c.Logger = tokens, zerolog.New(log) })
	select {
	case <-again:
	case <-t.Context().Done():
	}
}

// TestUpstreamShown: neither the log nor the status tells what a URL holds of credentials.
func TestUpstreamShown(t *testing.T) {
	t.Parallel()
	log := &watched{}
	r := run(t, func(c *daemon.Config) {
		c.Upstream, c.Logger = "http://127.0.0.1:1/mcp?api_key=SECRET", zerolog.New(log).Level(zerolog.DebugLevel)
	})
	if text := log.String(); strings.Contains(text, "SECRET") || !strings.Contains(text, `"upstream":"http://127.0.0.1:1/mcp"`) {
		t.Errorf("log:\n%s", text)
	}
	if r.status.Upstream != "http://127.0.0.1:1/mcp" {
		t.Errorf("status: %s", r.status.Upstream)
	}
}
