package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// readyTimeout bounds how long a child may take until it is ready.
const readyTimeout = 60 * time.Second

// gateway is `dormouse serve` as a child process, again and again on the same folder and the same ports.
type gateway struct {
	exe   string
	data  string // its data folder
	log   string // where its log goes
	args  []string
	mcp   string // listens here, host:port
	admin string

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
}

func newGateway(ctx context.Context, exe, folder string, args []string) (*gateway, error) {
	g := &gateway{exe: exe, data: filepath.Join(folder, "data"), log: filepath.Join(folder, "serve.log"), args: args}
	var err error
	if g.mcp, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	g.admin, err = freeAddress(ctx)
	return g, err
}

// freeAddress finds a free port below those that the kernel hands out by itself: a client that knocks at a port of
// that range while nobody listens may be given the very port as its own and meet itself there.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)) // #nosec G404 -- a port, not a secret
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			continue
		}
		return address, l.Close()
	}
	return "", errors.New("no free port between 20000 and 32000")
}

func (g *gateway) endpoint() string { return "http://" + g.mcp + "/mcp" }

// start runs the child and returns when it has been started, not when it is ready.
func (g *gateway) start(ctx context.Context) error {
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"serve", "--data", g.data, "--listen", g.mcp, "--admin-listen", g.admin, "--log-format", "json"}, g.args...)
	g.cmd = exec.CommandContext(ctx, g.exe, args...) // #nosec G204 -- this very program
	g.cmd.Args[0] = "dormouse"
	g.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DORMOUSE_") })
	g.cmd.Stdout, g.cmd.Stderr = log, log
	if err := g.cmd.Start(); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	g.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(g.cmd, g.exited)
	return nil
}

// readiness is what /readyz says.
type readiness struct {
	State     string  `json:"state"`
	Folded    uint64  `json:"folded"`
	Sessions  int     `json:"sessions"`
	ElapsedMS float64 `json:"elapsedMs"`
}

// waitReady polls /readyz until it says yes.
func (g *gateway) waitReady(ctx context.Context) (readiness, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the gateway was not ready within %s; its log is %s", readyTimeout, g.log))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if r, ok := g.ready(ctx); ok {
			return r, nil
		}
		select {
		case <-tick.C:
		case <-g.exited:
			return readiness{}, fmt.Errorf("the gateway ended by itself (%s); its log is %s", g.cmd.ProcessState, g.log)
		case <-ctx.Done():
			return readiness{}, context.Cause(ctx)
		}
	}
}

func (g *gateway) ready(ctx context.Context) (r readiness, ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.mcp+"/readyz", nil)
	if err != nil {
		return r, false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, false
	}
	defer res.Body.Close()
	return r, res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(&r) == nil
}

// kill is kill -9: the process gets no chance to write anything.
func (g *gateway) kill() error {
	err := g.cmd.Process.Kill()
	<-g.exited
	return err
}

// stop ends the child in order, or by force when it does not hear.
func (g *gateway) stop() {
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	_ = g.cmd.Process.Signal(os.Interrupt)
	select {
	case <-g.exited:
	case <-time.After(20 * time.Second):
		_ = g.kill()
	}
}
