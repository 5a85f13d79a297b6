package doctor

import (
	"context"
	"path/filepath"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// patience is how long a command may take to answer initialize; npx may have to fetch it.
const patience = time.Minute

// command starts an upstream command and asks it to initialize; false: there is none to start. A running daemon's is
// only looked for: its environment is the daemon's affair.
func (e *exam) command(ctx context.Context) bool {
	if len(e.o.Command) == 0 {
		if e.daemon == nil || len(e.daemon.Command) == 0 {
			return false
		}
		e.program(e.daemon.Command)
		return true
	}
	if !e.program(e.o.Command) {
		return true
	}
	name := filepath.Base(e.o.Command[0])
	began := time.Now()
	server, err := stdio.Probe(ctx, stdio.Options{Command: e.o.Command, StartTimeout: patience})
	if err != nil {
		e.add("upstream", Fail, "start it by hand: it must speak MCP on its stdin and stdout", "%s: %v", name, err)
		return true
	}
	e.ok("upstream", "%s answers initialize after %v: %s", name, time.Since(began).Round(time.Millisecond), server)
	return true
}

// program looks for a command's program.
func (e *exam) program(command []string) bool {
	path, err := stdio.Find(command)
	if err != nil {
		e.add("upstream command", Fail, "install it, or give its path", "%v", err)
		return false
	}
	e.ok("upstream command", "%s", path)
	return true
}
