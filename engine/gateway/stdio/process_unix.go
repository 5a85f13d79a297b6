//go:build unix

package stdio

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// watch is what a group's leader runs: it waits until its stdin ends, and kills the group, itself included. What asks
// politely is for the others.
const watch = `trap '' TERM INT HUP QUIT; read -r _; kill -s KILL 0`

// group is a process group that ends when this process does, however that ends.
type group struct {
	leader *exec.Cmd
	leash  *os.File      // the other end of the leader's stdin
	lost   chan struct{} // closed when the leader has ended

	mu    sync.Mutex
	ended bool
}

// newGroup starts a group's leader.
func newGroup() (*group, error) {
	stdin, leash, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("watcher: %w", err)
	}
	alive, stdout, err := os.Pipe()
	if err != nil {
		_, _ = stdin.Close(), leash.Close()
		return nil, fmt.Errorf("watcher: %w", err)
	}
	g := &group{leash: leash, lost: make(chan struct{})}
	g.leader = exec.CommandContext(context.Background(), "/bin/sh", "-c", watch)
	g.leader.Env = []string{}
	g.leader.Stdin, g.leader.Stdout = stdin, stdout
	g.leader.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = g.leader.Start()
	_, _ = stdin.Close(), stdout.Close()
	if err != nil {
		_, _ = leash.Close(), alive.Close()
		return nil, fmt.Errorf("watcher: %w", err)
	}
	go func() {
		defer close(g.lost)
		defer alive.Close()
		_, _ = io.Copy(io.Discard, alive) // ends with the leader, which holds the only other end
	}()
	return g, nil
}

// id is the group's ID. It stays taken until end has returned, even if the leader dies before.
func (g *group) id() int { return g.leader.Process.Pid }

// join makes cmd start in the group.
func (g *group) join(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: g.id()}
}

// terminate asks all processes of the group to end.
func (g *group) terminate() { g.signal(syscall.SIGTERM) }

// kill ends all processes of the group.
func (g *group) kill() { g.signal(syscall.SIGKILL) }

func (g *group) signal(s syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		_ = syscall.Kill(-g.id(), s) // nobody is left: just as well
	}
}

// over reports whether end has been called.
func (g *group) over() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}

// end kills what is left of the group and waits for its leader.
func (g *group) end() {
	g.mu.Lock()
	g.ended = true
	_ = syscall.Kill(-g.id(), syscall.SIGKILL) // the leader at least is there
	g.mu.Unlock()
	_ = g.leader.Wait() // it was killed
	_ = g.leash.Close()
	<-g.lost
}
