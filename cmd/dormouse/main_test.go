package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
)

// hung is a wait that nothing takes that works, however busy the machine is. No test waits for less.
const hung = 3 * time.Minute

// What clients say in tests.
const (
	initializeMessage = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"script","version":"7"}}}`
	listMessage       = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dormouse": main, "nats-server": natsMain, "stdio-echo": stdioMain})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "serving": serving, "initialize": initialize, "fetch": fetch, "flip": flip, "cut": cut,
			"awaits": awaits, "answers": answers, "nats": nats, "misname": misname,
		},
	})
}

// exits CODE COMMAND…: the command must end with that code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d\n%s", code, want, ts.ReadFile("stderr"))
	}
}

// awaits PATTERN COMMAND…: run the command until its output matches.
func awaits(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[0])
	give := time.Now().Add(hung)
	for {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(give) {
			ts.Fatalf("%s never says %s", args[1], args[0])
		}
	}
}

// serving DIR: wait until a daemon is ready on the folder; sets $MCP and $ADMIN to its addresses and $PID.
func serving(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), hung)
	defer cancel()
	s, err := awaitDaemon(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("MCP", s.Listen)
	ts.Setenv("ADMIN", s.Admin)
	ts.Setenv("PID", strconv.Itoa(s.PID))
}

// awaitDaemon waits until the daemon of a folder is ready.
func awaitDaemon(ctx context.Context, dir string) (s control.Status, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := control.Connect(ctx, dir)
		if err == nil {
			if s, err = c.Status(ctx); err == nil && s.State == "ready" {
				return s, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("no daemon is ready on %s: %w", dir, errors.Join(err, ctx.Err()))
		}
	}
}

// initialize INSTANCE: start a session at $MCP as this instance; sets $REF to its ref, $SHORT to the ref's beginning
// and writes the session ID to a file named like the instance.
func initialize(ts *testscript.TestScript, _ bool, args []string) {
	status, session, err := send(context.Background(), ts.Getenv("MCP"), args[0], "", initializeMessage)
	ts.Check(err)
	id := journal.SessionID(session)
	if status != http.StatusOK || id == "" {
		ts.Fatalf("initialize: %d", status)
	}
	ts.Setenv("REF", id.Ref().String())
	ts.Setenv("SHORT", id.Ref().String()[:8])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(id.Reveal()), 0o600))
}

// answers STATUS INSTANCE: the session that initialize started must answer a request with this status.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	status, _, err := send(context.Background(), ts.Getenv("MCP"), args[1], ts.ReadFile(args[1]), listMessage)
	ts.Check(err)
	if got := strconv.Itoa(status); got != args[0] {
		ts.Fatalf("the session of %s answers %s, want %s", args[1], got, args[0])
	}
}

// send sends a message as this instance, and returns the answer's status and session ID.
func send(ctx context.Context, listen, instance, session, body string) (status int, id string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+listen+"/mcp", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"X-N8n-Url": "http://127.0.0.1:5678", "X-N8n-Key": "canary-key-of-" + instance, "X-Instance-Id": instance,
		"Mcp-Session-Id": session,
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	return res.StatusCode, res.Header.Get("Mcp-Session-Id"), res.Body.Close()
}

// fetch STATUS URL [TOKENFILE]: the URL must answer GET with this status; its body goes to stdout.
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodGet, args[1], nil) //nolint:noctx // a test's own server
	ts.Check(err)
	if len(args) > 2 {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[2])))
	}
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	if got := strconv.Itoa(res.StatusCode); got != args[0] {
		ts.Fatalf("%s answers %s, want %s", args[1], res.Status, args[0])
	}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		return
	}
	var v any
	ts.Check(json.NewDecoder(res.Body).Decode(&v))
	text, err := json.Marshal(v)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "body"), text, 0o600))
}
