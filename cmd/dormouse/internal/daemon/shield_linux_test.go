package daemon

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/metrics"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// A gateway with child processes keeps its own environment and memory from them.
func TestShield(t *testing.T) {
	before, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(before), 0, 0, 0) })
	d := &daemon{metrics: metrics.New("test"), c: Config{Children: stdio.Options{Command: []string{"true"}}}}
	if d.upstream, err = d.makeUpstream(); err != nil {
		t.Fatal(err)
	}
	defer d.closeUpstream()
	if now, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || now != 0 {
		t.Error(now, err)
	}
	if got := d.c.describeUpstream(); got != "child processes of true" {
		t.Error(got)
	}
}
