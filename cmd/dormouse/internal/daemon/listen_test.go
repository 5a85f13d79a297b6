package daemon_test

import (
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

// TestListenersAreClosed: where one address is taken, the daemon lets go of the others.
func TestListenersAreClosed(t *testing.T) {
	t.Parallel()
	taken := occupy(t, "127.0.0.1:0")
	peers := occupy(t, "127.0.0.1:"+strconv.Itoa(12000+rand.IntN(18000)))
	_ = peers.Close()
	err := daemon.Run(t.Context(), daemon.Config{
		Store: store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}, Version: "test", Replica: "r1",
		Listen: "127.0.0.1:0", AdminListen: taken.Addr().String(), Replicas: daemon.Replicas{Listen: peers.Addr().String()},
	})
	if err == nil {
		t.Fatal("it came up")
	}
	_ = occupy(t, peers.Addr().String()).Close()
}

func occupy(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
