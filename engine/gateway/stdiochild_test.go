package gateway_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// childMark in the environment makes the test binary a server over stdio: "plain" has newTools, "more" also the tools
// below; "mute" says nothing, "short" ends at once.
const childMark = "DORMOUSE_TEST_CHILD"

func beChild() int {
	switch os.Getenv(childMark) {
	case "mute":
		time.Sleep(time.Hour)
	case "short":
		fmt.Fprintln(os.Stderr, "there is no license")
		return 3
	}
	fmt.Println("Server starting ...") // as careless servers do
	m := newTools()
	if os.Getenv(childMark) == "more" {
		moreTools(m)
	}
	if err := m.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// moreTools adds what a test wants to do to a process.
func moreTools(m *mcp.Server) {
	var mu sync.Mutex
	count := 0
	act := func(name string, run func(ctx context.Context, r *mcp.CallToolRequest, text string) (string, error)) {
		mcp.AddTool(m, &mcp.Tool{Name: name, Annotations: &mcp.ToolAnnotations{ReadOnlyHint: name == "pid"}}, func(ctx context.Context, r *mcp.CallToolRequest, in say) (*mcp.CallToolResult, any, error) {
			out, err := run(ctx, r, in.Text)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: out}}}, nil, err
		})
	}
	act("count", func(context.Context, *mcp.CallToolRequest, string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		count++
		return strconv.Itoa(count), nil
	})
	act("env", func(context.Context, *mcp.CallToolRequest, string) (string, error) {
		env := os.Environ()
		slices.Sort(env)
		return strings.Join(env, "\n"), nil
	})
	act("pid", func(context.Context, *mcp.CallToolRequest, string) (string, error) {
		return strconv.Itoa(os.Getpid()), nil
	})
	act("die", func(_ context.Context, _ *mcp.CallToolRequest, text string) (string, error) {
		fmt.Fprintln(os.Stderr, text)
		return "", syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
	act("fork", func(context.Context, *mcp.CallToolRequest, string) (string, error) {
		cmd := exec.CommandContext(context.Background(), "sleep", "3600")
		if err := cmd.Start(); err != nil {
			return "", err
		}
		go func() { _ = cmd.Wait() }()
		return strconv.Itoa(cmd.Process.Pid), nil
	})
	act("grow", func(_ context.Context, _ *mcp.CallToolRequest, text string) (string, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return "", err
		}
		_, err = syscall.Mmap(-1, 0, n<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE)
		return "grown", err
	})
	act("shout", func(_ context.Context, _ *mcp.CallToolRequest, text string) (string, error) {
		n, err := strconv.Atoi(text)
		return strings.Repeat("x", n), err
	})
	act("log", func(ctx context.Context, r *mcp.CallToolRequest, text string) (string, error) {
		//nolint:staticcheck // servers of older versions use it
		return "logged", r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Data: text})
	})
	act("update", func(ctx context.Context, _ *mcp.CallToolRequest, text string) (string, error) {
		return "updated", m.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: text})
	})
	act("later", func(_ context.Context, r *mcp.CallToolRequest, text string) (string, error) {
		go func() { // after the answer, most likely; before it, it is no less right
			res, err := r.Session.Elicit(context.Background(), &mcp.ElicitParams{Message: text, RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
			if err == nil {
				//nolint:staticcheck // servers of older versions use it
				_ = r.Session.Log(context.Background(), &mcp.LoggingMessageParams{Level: "info", Data: "heard " + res.Action})
			}
		}()
		return "later", nil
	})
	act("deaf", func(context.Context, *mcp.CallToolRequest, string) (string, error) {
		_, _ = os.Stdin.Close(), os.Stdout.Close()
		time.Sleep(time.Hour)
		return "", nil
	})
}
