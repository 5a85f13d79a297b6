package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// onTerminal runs the command with a real pseudo-terminal as its standard error, calls while it runs, and returns what
// the terminal was sent.
func onTerminal(t *testing.T, env []string, while func(), args ...string) string {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Args[0], cmd.Stderr = "dormouse", tty
	cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	var sent bytes.Buffer
	var failed error
	var reading sync.WaitGroup
	reading.Go(func() { _, failed = io.Copy(&sent, master) })
	if while != nil {
		while()
		_ = cmd.Process.Signal(os.Interrupt)
	}
	reading.Wait() // until the process, which alone has the other side, is gone
	if err := cmd.Wait(); err != nil {
		t.Errorf("dormouse %v: %v\n%q", args, err, &sent)
	}
	if failed != nil && !errors.Is(failed, syscall.EIO) { // so Linux tells that the other side was closed
		t.Error(failed)
	}
	return sent.String()
}

// remains returns the lines that stay on the screen, without color, when bars have come and gone on the last one.
func remains(t *testing.T, sent string) []string {
	t.Helper()
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(sent, "\r\n", "\n"), "\n") {
		line = line[strings.LastIndex(line, "\x1b[2K")+1:]
		line = regexp.MustCompile(`\x1b?\[[0-9]*[mK]`).ReplaceAllString(line, "")
		if strings.ContainsAny(line, "\r\x1b") || strings.Contains(line, "%") {
			t.Errorf("a line has remains of a bar: %q", line)
		}
		lines = append(lines, line)
	}
	return lines
}

// Whoever looks on sees a bar while it takes long, and lines that nothing has run into.
func TestBarsOnATerminal(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	gw := &serveChild{t: t, data: filepath.Join(dir, "data"), args: []string{"--listen", "127.0.0.1:0"}}
	gw.start()
	gw.kill()
	file := filepath.Join(dir, "sessions.json")
	writeSessions(t, file, 3)

	bar := func(sent, pattern string) {
		t.Helper()
		if !regexp.MustCompile(pattern).MatchString(regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(sent, "")) {
			t.Errorf("no %q in %q", pattern, sent)
		}
	}
	data := []string{"--data", gw.data}
	const folding = `restoring \d+/\d+ messages, \d+ sessions? +\d+% \[[=> ]+\]`
	sent := onTerminal(t, nil, nil, append([]string{"restore", file}, data...)...)
	bar(sent, folding)
	bar(sent, `restoring 3 sessions +\d+% \[`)
	if got := remains(t, sent); len(got) != 2 || !strings.HasSuffix(got[0], "sessions.json: 3 sessions in json form") {
		t.Errorf("restore leaves %q", got)
	}
	sent = onTerminal(t, nil, nil, append([]string{"export", "--format", "json", "--plaintext", "-o", filepath.Join(dir, "out.json")}, data...)...)
	bar(sent, `exporting 1/3 sessions +\d+% \[`)
	if got := remains(t, sent); !strings.HasPrefix(got[len(got)-2], "exported 3 sessions to ") {
		t.Errorf("export leaves %q", got)
	}
	sent = onTerminal(t, nil, nil, append([]string{"verify"}, data...)...)
	bar(sent, `verifying message \d+/\d+, 0 faults +\d+% \[`)
	remains(t, sent)

	for _, env := range []string{"NO_COLOR=", "NO_COLOR=1"} {
		serving := func() {
			if st, err := awaitDaemon(t.Context(), gw.data); err != nil || st.Sessions != 3 {
				t.Errorf("%d sessions, %v", st.Sessions, err)
			}
		}
		sent = onTerminal(t, []string{env}, serving, append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"}, data...)...)
		bar(sent, folding)
		if colored := regexp.MustCompile(`\x1b\[[0-9;]*m`).MatchString(sent); colored != (env == "NO_COLOR=") {
			t.Errorf("%s: %q", env, sent)
		}
		lines := remains(t, sent)
		for _, line := range lines[:len(lines)-1] {
			if !regexp.MustCompile(`^\d\d:\d\d:\d\d [A-Z]{3} `).MatchString(line) {
				t.Errorf("serve: %q is no line of the log", line)
			}
		}
		if !strings.Contains(sent, "restored; all sessions are dormant") {
			t.Errorf("no summary in %q", sent)
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "serve.log"))
	if err != nil || bytes.ContainsAny(log, "\r\x1b") {
		t.Errorf("without a terminal: %q, %v", log, err)
	}
}

// writeSessions writes a JSON export of so many sessions.
func writeSessions(t *testing.T, file string, n int) {
	t.Helper()
	now := time.Now()
	states := make([]engine.SessionState, n)
	for i := range states {
		states[i] = engine.SessionState{
			SessionID: journal.NewSessionID(), Metadata: engine.SessionMetadata{CreatedAt: now, LastAccess: now},
			Context: engine.InstanceContext{N8nAPIURL: "http://127.0.0.1:5678", N8nAPIKey: fmt.Sprint("key-", i)},
		}
	}
	text, err := json.Marshal(states)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
