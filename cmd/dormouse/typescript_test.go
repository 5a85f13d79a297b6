//go:build e2e

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

// typescript drives .ci/e2e/client.mjs: clients of the official TypeScript SDK in one Node process.
type typescript struct {
	t     *testing.T
	stdin io.Writer

	mu    sync.Mutex
	last  int
	waits map[int]chan tsAnswer
}

type tsAnswer struct {
	ID     int             `json:"id"`
	Event  string          `json:"event"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Name, Message string
		Code          json.RawMessage
	} `json:"error"`
}

func startTypeScript(t *testing.T) *typescript {
	t.Helper()
	script, err := filepath.Abs("../../.ci/e2e/client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	c := &typescript{t: t, waits: map[int]chan tsAnswer{}}
	cmd := exec.Command("node", script) //nolint:noctx // ended by the test
	cmd.Stderr = os.Stderr
	cmd.Dir = filepath.Dir(script)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c.stdin = in
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.take(lines.Bytes())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-read
		_ = cmd.Wait() // killed
	})
	return c
}

func (c *typescript) take(line []byte) {
	var a tsAnswer
	if json.Unmarshal(line, &a) != nil || a.Event != "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if to := c.waits[a.ID]; to != nil {
		delete(c.waits, a.ID)
		to <- a
	}
}

// do sends one command and waits for its answer.
func (c *typescript) do(command map[string]any) (tsAnswer, error) {
	to := make(chan tsAnswer, 1)
	c.mu.Lock()
	c.last++
	command["id"] = c.last
	c.waits[c.last] = to
	line, err := json.Marshal(command)
	if err == nil {
		_, err = c.stdin.Write(append(line, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return tsAnswer{}, err
	}
	select {
	case a := <-to:
		if a.Error != nil {
			return a, fmt.Errorf("%s %s: %s", a.Error.Name, a.Error.Code, a.Error.Message)
		}
		return a, nil
	case <-time.After(hung):
		return tsAnswer{}, fmt.Errorf("no answer within %v", hung)
	}
}

// startTypeScriptLoad connects TypeScript clients through the balancer and lets them call.
func startTypeScriptLoad(t *testing.T, b *balancer, clients int) *load {
	t.Helper()
	acme, ts := newTenant(t), startTypeScript(t)
	l := &load{t: t, count: make([]int, clients)}
	done := make(chan struct{})
	l.stop = sync.OnceFunc(func() { close(done) })
	for i := range l.count {
		name := fmt.Sprint("c", i)
		_, err := ts.do(map[string]any{"op": "connect", "client": name, "url": b.server.URL, "headers": map[string]string{
			"x-n8n-url": acme.url, "x-n8n-key": acme.key, "x-instance-id": acme.name,
		}})
		if err != nil {
			t.Fatal(err)
		}
		l.calls.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				began := time.Now()
				a, err := ts.do(map[string]any{"op": "call", "client": name, "tool": "n8n_list_workflows", "args": map[string]any{}, "timeoutMs": 120_000})
				if err == nil && !strings.Contains(string(a.Result), n8ntest.MarkerTag(acme.name)) {
					err = errors.New(string(a.Result))
				}
				l.note(i, began, err)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}
