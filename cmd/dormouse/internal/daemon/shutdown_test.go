package daemon_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

// TestRequestsUnderWayAreAnswered stops a daemon in the middle of a call: the client gets its answer.
func TestRequestsUnderWayAreAnswered(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"data":[{"id":"1","name":"the slow one","active":true}],"nextCursor":null}`))
	}))
	defer slow.Close()
	r := run(t, nil)
	r.n8n = slow.URL
	_, _, h := r.mcp("", initialize)
	session := h.Get("Mcp-Session-Id")
	type answer struct {
		status int
		text   string
	}
	got := make(chan answer, 1)
	go func() {
		status, text, _ := r.mcp(session, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"n8n_list_workflows","arguments":{}}}`)
		got <- answer{status, text}
	}()
	<-arrived
	r.stop()
	for r.reachable() { // until the listener has closed: from then on it is shutting down
	}
	close(release)
	if a := <-got; a.status != http.StatusOK || !strings.Contains(a.text, "the slow one") {
		t.Errorf("the call under way: %d %s", a.status, a.text)
	}
}

// TestStoppedWhileStarting: being asked to stop is no failure.
func TestStoppedWhileStarting(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	dir := filepath.Join(t.TempDir(), "data")
	c := daemon.Config{Store: store.Options{Dir: dir, Create: true}, Version: "test", Replica: "r1", Listen: "127.0.0.1:0"}
	for range 2 {
		if err := daemon.Run(ctx, c); err != nil {
			t.Errorf("run: %v", err)
		}
	}
	if err := store.Claimable(dir); err != nil {
		t.Error(err)
	}
}
