package bench

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Nobody waits for a process that has ended; what it said last tells why.
func TestReadyEndsWithTheChild(t *testing.T) {
	t.Parallel()
	c := &child{cmd: exec.CommandContext(t.Context(), "/bin/sh", "-c", "echo the port is taken >&2; exit 3")}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.run(); err != nil {
		t.Fatal(err)
	}
	err := c.ready(t.Context(), "http://127.0.0.1:1/", time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the port is taken") {
		t.Error(err)
	}
	c.stop()
}
