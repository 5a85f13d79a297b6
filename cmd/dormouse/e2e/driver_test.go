//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clients drives .ci/e2e/client.mjs: many clients of the official TypeScript SDK in one Node process.
// Safe for concurrent use.
type clients struct {
	t     *testing.T
	mu    sync.Mutex // guards what follows
	stdin io.Writer
	next  int
	wait  map[int]chan answer
	ended error
}

// answer is one line from client.mjs.
type answer struct {
	ID        int             `json:"id"`
	Event     string          `json:"event"`
	Client    string          `json:"client"`
	OK        bool            `json:"ok"`
	MS        int             `json:"ms"`
	SessionID string          `json:"sessionId"`
	Protocol  string          `json:"protocol"`
	Tools     []string        `json:"tools"`
	Result    json.RawMessage `json:"result"`
	Error     *clientError    `json:"error"`
}

// clientError is what the client's call threw.
type clientError struct {
	Name    string          `json:"name"`
	Code    json.RawMessage `json:"code"`
	Message string          `json:"message"`
}

func (e *clientError) Error() string { return fmt.Sprintf("%s %s: %s", e.Name, e.Code, e.Message) }

// timedOut reports whether the client gave up waiting, which is what a hang looks like.
func (e *clientError) timedOut() bool { return string(e.Code) == "-32001" }

type command struct {
	ID        int               `json:"id"`
	Op        string            `json:"op"`
	Client    string            `json:"client"`
	URL       string            `json:"url,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
	SDK       string            `json:"sdk,omitempty"` // its npm package; empty = @modelcontextprotocol/sdk
	Tool      string            `json:"tool,omitempty"`
	Args      any               `json:"args,omitempty"`
	TimeoutMS int64             `json:"timeoutMs,omitempty"`
}

func startClients(t *testing.T) *clients {
	t.Helper()
	c := &clients{t: t, wait: map[int]chan answer{}}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), shared.node, filepath.Join(shared.npm, "client.mjs"))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = ownGroup()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read(stdout)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-read
		_ = cmd.Wait()
	})
	return c
}

func (c *clients) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			c.end(err)
			return
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			c.end(fmt.Errorf("client.mjs said %q: %w", line, err))
			return
		}
		if a.Event != "" {
			continue
		}
		c.mu.Lock()
		to := c.wait[a.ID]
		delete(c.wait, a.ID)
		c.mu.Unlock()
		if to != nil {
			to <- a
		}
	}
}

// end lets everybody who waits go.
func (c *clients) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = err
	for _, to := range c.wait {
		close(to)
	}
	c.wait = nil
}

var errClientsGone = errors.New("the client process ended")

// do sends one command and waits for its answer. Its error is a *clientError when the client's call threw.
func (c *clients) do(ctx context.Context, cmd command) (answer, error) {
	to := make(chan answer, 1)
	c.mu.Lock()
	if c.wait == nil {
		c.mu.Unlock()
		return answer{}, fmt.Errorf("%w: %w", errClientsGone, c.ended)
	}
	c.next++
	cmd.ID = c.next
	c.wait[cmd.ID] = to
	line, err := json.Marshal(cmd)
	if err == nil {
		_, err = c.stdin.Write(append(line, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	case a, ok := <-to:
		if !ok {
			return answer{}, errClientsGone
		}
		if a.Error != nil {
			return a, a.Error
		}
		return a, nil
	}
}

// client is one MCP session of one tenant.
type client struct {
	all     *clients
	name    string
	session string // the session ID that it holds
	version string // the negotiated protocol version
}

// connect makes a new client, which must succeed.
func (c *clients) connect(name, url string, headers map[string]string) *client {
	c.t.Helper()
	return c.connectBy("", name, url, headers)
}

// connectBy is connect with a client of another SDK.
func (c *clients) connectBy(sdk, name, url string, headers map[string]string) *client {
	c.t.Helper()
	ctx, cancel := context.WithTimeoutCause(c.t.Context(), hung, errTimeout)
	defer cancel()
	a, err := c.do(ctx, command{Op: "connect", Client: name, URL: url, Headers: headers, SDK: sdk})
	if err != nil {
		c.t.Fatalf("client %s: connect: %v", name, err)
	}
	return &client{all: c, name: name, session: a.SessionID, version: a.Protocol}
}

// call calls a tool and returns the text of its result. A result with isError is an error too.
func (c *client) call(ctx context.Context, limit time.Duration, tool string, args any) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit+hung, errTimeout)
	defer cancel()
	a, err := c.all.do(ctx, command{Op: "call", Client: c.name, Tool: tool, Args: args, TimeoutMS: limit.Milliseconds()})
	if err != nil {
		return "", err
	}
	if a.SessionID != c.session {
		return "", fmt.Errorf("the session ID changed: %w", errWrongAnswer)
	}
	return resultText(a.Result)
}

var (
	errWrongAnswer = errors.New("wrong answer")
	errTool        = errors.New("the result says isError")
)

func resultText(raw json.RawMessage) (string, error) {
	var r struct {
		IsError bool
		Content []struct{ Text string }
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, part := range r.Content {
		b.WriteString(part.Text)
	}
	if r.IsError {
		return b.String(), fmt.Errorf("%w: %s", errTool, b.String())
	}
	return b.String(), nil
}

// mustCall is call with an answer that must come and contain want.
func (c *client) mustCall(limit time.Duration, tool string, args any, want string) {
	c.all.t.Helper()
	got, err := c.call(c.all.t.Context(), limit, tool, args)
	if err != nil {
		c.all.t.Fatalf("client %s: %s: %v", c.name, tool, err)
	}
	if !strings.Contains(got, want) {
		c.all.t.Fatalf("client %s: %s answered %.200q, want %q in it", c.name, tool, got, want)
	}
}

// mustHave lists the tools, one of which must be there.
func (c *client) mustHave(tool string) {
	c.all.t.Helper()
	a, err := c.all.do(c.all.t.Context(), command{Op: "tools", Client: c.name, TimeoutMS: callLimit.Milliseconds()})
	if err != nil {
		c.all.t.Fatalf("client %s: tools/list: %v", c.name, err)
	}
	if !slices.Contains(a.Tools, tool) {
		c.all.t.Fatalf("client %s: no tool %s among %v", c.name, tool, a.Tools)
	}
}

func (c *client) terminate() error {
	_, err := c.all.do(c.all.t.Context(), command{Op: "terminate", Client: c.name})
	return err
}
