package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// child is a process under measurement.
type child struct {
	cmd    *exec.Cmd
	log    tail
	exited chan struct{} // closed when it has ended and all that it has said is in log
}

// tail keeps the end of what is written. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 8 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text = append(l.text, p...); len(l.text) > tailBytes {
		l.text = bytes.Clone(l.text[len(l.text)-tailBytes:])
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// start runs this binary with args.
func start(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, args...)} //nolint:gosec // our own binary with our own arguments
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	c.cmd.Env = append(os.Environ(), "DORMOUSE_LOG_LEVEL=warn")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c, c.run()
}

// run starts the process, and waits for its end in the background.
func (c *child) run() error {
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.exited = make(chan struct{})
	go func() {
		defer close(c.exited)
		_ = c.cmd.Wait() // ProcessState says how it ended
	}()
	return nil
}

// stop kills the process: no benchmark needs its good-bye.
func (c *child) stop() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	<-c.exited
}

// ready polls url until it answers 200, for a minute at most, or until the process has ended.
func (c *child) ready(ctx context.Context, url string, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok(ctx, url) {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("%s has ended (%s) before it was ready; its last words:\n%s", c.cmd.Args[1], c.cmd.ProcessState, c.log.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", c.cmd.Args[1], ctx.Err(), c.log.String())
		case <-tick.C:
		}
	}
}

func ok(ctx context.Context, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// cpu returns the process's user and system time so far, to 10 ms.
func (c *child) cpu() time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name in field 2 may hold spaces; fields are counted from its closing parenthesis.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, _ := strconv.ParseInt(string(f), 10, 64) // the kernel writes digits
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// freeAddress returns a loopback address that was free a moment ago. Its port is below those that the kernel hands out by
// itself: a client that knocks at one of those while nobody listens may be given the very port as its own.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000)) // #nosec G404 -- a port, not a secret
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			continue
		}
		return address, l.Close()
	}
	return "", errors.New("no free port between 10000 and 32000")
}
