//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proc is a process that the suite started, in a process group of its own, with its output in a file.
type proc struct {
	name string
	cmd  *exec.Cmd
	log  string // the file that stdout and stderr are appended to
	done chan struct{}
}

// startProc starts argv and ends it, group and all, with the test.
func startProc(t *testing.T, log string, env []string, argv ...string) *proc {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{name: filepath.Base(log), log: log, done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Dir = filepath.Dir(log)
	p.cmd.SysProcAttr = ownGroup()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
		_ = out.Close()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s ended with its last lines:\n%s", p.name, tail(p.log, 4000))
		}
	})
	return p
}

// kill sends SIGKILL to the process group and waits for the end.
func (p *proc) kill() {
	if p.running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.done
}

// terminate sends SIGTERM to the process and reports whether it ended within the limit.
func (p *proc) terminate(limit time.Duration) bool {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return true
	case <-time.After(limit):
		return false
	}
}

func (p *proc) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func tail(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if len(data) > n {
		data = data[len(data)-n:]
	}
	return string(data)
}

// freePort returns a loopback port that nothing listens on, below the range from which the kernel takes
// the ports of outgoing connections: a gateway that is down for a moment must get its own port back.
func freePort(t *testing.T) int {
	t.Helper()
	for range 200 {
		port := 12000 + rand.IntN(18000)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// result is how a command that was run to its end came out.
type result struct {
	stdout, stderr string
	code           int
}

// run runs dormouse to its end. It fails the test only when that takes longer than the limit.
func run(t *testing.T, limit time.Duration, args ...string) result {
	t.Helper()
	return runIn(t, limit, t.TempDir(), nil, shared.binary, args...)
}

func runIn(t *testing.T, limit time.Duration, dir string, env []string, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if context.Cause(ctx) != nil {
		t.Fatalf("%s %s: %v after %v\nstdout: %s\nstderr: %s", name, strings.Join(args, " "), context.Cause(ctx), limit, stdout.String(), stderr.String())
	}
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// must fails the test unless the command came out with code 0.
func (r result) must(t *testing.T) result {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
	return r
}

// drain reads r to its end, at most 1 MiB of it.
func drain(r io.Reader) string {
	data, _ := io.ReadAll(io.LimitReader(r, 1<<20))
	return string(data)
}
