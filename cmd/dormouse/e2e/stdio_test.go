//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// npx is how most people start a server from npm; here it may not fetch anything.
func npx(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath("npx")
	if err != nil {
		t.Fatalf("%v: it comes with Node", err)
	}
	return fmt.Sprintf("'%s' --no --prefix '%s' %s", path, shared.npm, name)
}

// stdioServer is an MCP server from npm as an --upstream-command. It is started through a shell that stays, as npx does:
// what serves is a grandchild of the gateway.
func stdioServer(script string, args ...string) string {
	words := append([]string{shared.node, filepath.Join(shared.npm, "node_modules", script)}, args...)
	return `/bin/sh -c "'` + strings.Join(words, `' '`) + `'; exit $?"`
}

// children returns the processes whose environment names a session of g's journal: what it has started, and what
// they have.
func (g *gateway) children() (pids []int) {
	g.t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		g.t.Fatal(err)
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", d.Name(), "environ"))
		if err == nil && bytes.Contains(env, []byte("DORMOUSE_E2E_MARK="+g.data)) && bytes.Contains(env, []byte("DORMOUSE_SESSION=")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// noneOf waits until none of the processes is left.
func noneOf(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, hung, "children end", func(context.Context) error {
		for _, pid := range pids {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
				return fmt.Errorf("process %d is there: %.80s", pid, stat)
			}
		}
		return nil
	})
}

// startStdioGateway starts a gateway that marks its children.
func startStdioGateway(t *testing.T, command string, args ...string) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{
		t: t, data: filepath.Join(dir, "data"), log: filepath.Join(dir, "dormouse.log"),
		listen: fmt.Sprintf("127.0.0.1:%d", freePort(t)), admin: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
	}
	g.args = append([]string{"--upstream-command", command, "--upstream-env", "DORMOUSE_E2E_MARK=" + g.data}, args...)
	g.start()
	t.Cleanup(func() { // whatever went wrong, nothing stays
		for _, pid := range g.children() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return g
}

// TestStdioChildrenDieWithTheGateway: server-everything and n8n-mcp over stdio. The gateway is killed with SIGKILL and
// takes its children along, grandchildren and all; started again, it serves the same clients. So it does when the
// children are killed.
func TestStdioChildrenDieWithTheGateway(t *testing.T) {
	n8nMCP := []string{"--upstream-env", "MCP_MODE=stdio,LOG_LEVEL=error,DISABLE_CONSOLE_OUTPUT=true,N8N_MCP_TELEMETRY_DISABLED=true"}
	for name, c := range map[string]struct {
		command    string
		flags      []string
		tool, want string
		args       any
	}{
		"everything": {
			command: stdioServer("@modelcontextprotocol/server-everything/dist/index.js", "stdio"),
			tool:    "echo", args: map[string]string{"message": "are you there"}, want: "Echo: are you there",
		},
		"n8n-mcp": {
			command: npx(t, "n8n-mcp"), flags: n8nMCP,
			tool: "tools_documentation", args: map[string]string{}, want: "n8n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := startStdioGateway(t, c.command, c.flags...)
			for want, args := range map[string][]string{
				"answers initialize after": {"doctor", "--upstream-command", c.command}, "upstream command": {"doctor"},
			} {
				if got := g.cli(args...); !strings.Contains(got.stdout, want) {
					t.Errorf("%v: %s %s", args, got.stdout, got.stderr)
				}
			}
			ts := startClients(t)
			var all []*client
			for i := range 2 {
				all = append(all, ts.connect(fmt.Sprintf("%s-%d", name, i), g.url(), newTenant(t, fmt.Sprintf("t%d", i)).headers()))
			}
			ask := func() []int {
				t.Helper()
				for _, one := range all {
					one.mustHave(c.tool)
					one.mustCall(callLimit, c.tool, c.args, c.want)
				}
				pids := g.children()
				if len(pids) < 2*len(all) { // the shell and the server
					t.Fatalf("%d processes for %d sessions", len(pids), len(all))
				}
				return pids
			}
			pids := ask()
			g.kill()
			noneOf(t, pids)
			g.start()
			pids = ask()
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			noneOf(t, pids)
			pids = ask()
			if !g.process.terminate(hung) {
				t.Error("the gateway does not end")
			}
			noneOf(t, pids)
			g.checkLog()
		})
	}
}

// TestStdioCallInFlight: a call that a child was working on when it was killed fails, with an error that says what is
// known, or is repeated if the gateway could find out that the tool is read-only. When the gateway is killed, the client
// finds out when it comes back for the rest. Either way the session goes on. Once the gateway knows that the tool is
// read-only, the call is always repeated.
func TestStdioCallInFlight(t *testing.T) {
	const tool = "trigger-long-running-operation"
	g := startStdioGateway(t, stdioServer("@modelcontextprotocol/server-everything/dist/index.js", "stdio"))
	c := startClients(t).connect("in-flight", g.url(), newTenant(t, "in-flight").headers())
	calls := 0
	begin := func(seconds int) chan error {
		t.Helper()
		calls++
		ended := make(chan error, 1)
		go func() {
			_, err := c.call(context.WithoutCancel(t.Context()), callLimit, tool, map[string]any{"duration": seconds, "steps": seconds})
			ended <- err
		}()
		eventually(t, hung, "the call is under way", func(context.Context) error {
			n := 0
			for line := range strings.Lines(g.cli("log", "--json").must(t).stdout) {
				if strings.Contains(line, `"opened"`) && strings.Contains(line, tool) {
					n++
				}
			}
			if n < calls {
				return fmt.Errorf("%d of %d calls: %w", n, calls, errWrongAnswer)
			}
			return nil
		})
		return ended
	}
	killChild := func() {
		for _, pid := range g.children() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, killed := range []struct {
		name    string
		kill    func()
		seconds int
		repeats bool // perhaps
	}{
		{"the child", killChild, 4, true},
		{"the gateway", func() { g.kill(); g.start() }, 100, false},
	} {
		ended := begin(killed.seconds)
		killed.kill()
		err := <-ended
		if failed, ok := errors.AsType[*clientError](err); (!ok || failed.timedOut()) && (err != nil || !killed.repeats) {
			t.Errorf("%s was killed: %v", killed.name, err)
		}
		c.mustCall(callLimit, "echo", map[string]string{"message": killed.name}, "Echo: "+killed.name)
	}
	c.mustHave(tool)
	ended := begin(4)
	killChild()
	if err := <-ended; err != nil {
		t.Errorf("a read-only call whose child was killed: %v", err)
	}
}

// TestStdioTenantsKey: the tool of n8n-mcp that asks n8n who it is uses the tenant's own URL and key, and nothing of the
// gateway's environment reaches a child.
func TestStdioTenantsKey(t *testing.T) {
	n8n := startN8N(t)
	t.Setenv("DORMOUSE_E2E_SECRET", "of the gateway")
	g := startStdioGateway(t, stdioServer("n8n-mcp/dist/mcp/index.js"),
		"--upstream-env", "MCP_MODE=stdio,LOG_LEVEL=error,DISABLE_CONSOLE_OUTPUT=true,N8N_MCP_TELEMETRY_DISABLED=true,WEBHOOK_SECURITY_MODE=permissive")
	ts := startClients(t)
	for i := range 2 {
		tenant := addTenant(n8n, fmt.Sprintf("stdio-%d", i))
		c := ts.connect(tenant.id, g.url(), tenant.headers())
		c.mustHave(listWorkflows)
		c.mustCall(callLimit, listWorkflows, map[string]any{}, tenant.marker)
	}
	for _, pid := range g.children() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && bytes.Contains(env, []byte("of the gateway")) {
			t.Error("a child has the gateway's environment")
		}
	}
}
