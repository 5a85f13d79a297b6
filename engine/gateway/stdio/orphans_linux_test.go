package stdio

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// gatewayMark in the environment makes the test binary a gateway that starts children without end; each of them has the
// mark's value in its environment, and so has what it starts.
const gatewayMark = "DORMOUSE_TEST_GATEWAY"

func beGateway(mark string) {
	// A server that has started another process, both deaf to everything but SIGKILL.
	script := `trap '' TERM HUP; sleep 3600 & ` + initialized(`while true; do sleep 3600; done`)
	u, err := New(Options{Command: []string{"/bin/sh", "-c", script}, Env: []string{"CHILD_MARK=" + mark}, MaxChildren: 1000, MaxStarting: 4})
	if err != nil {
		panic(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				c, err := u.Connect(context.Background(), nobody{})
				if err != nil {
					panic(err)
				}
				c.(*conn).ref[0] = byte(u.Children()) // else the next one would take this one's place
				r := (&http.Request{Method: http.MethodPost, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(hello))})
				resp, err := c.RoundTrip(r.WithContext(context.Background()))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				fmt.Println("started")
			}
		})
	}
	all.Wait()
}

// marked returns the processes that have a mark in their environment and are no zombies.
func marked(t *testing.T, mark string) (pids []string) {
	t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join("/proc", d.Name(), "environ"))
		if err == nil && bytes.Contains(env, []byte("CHILD_MARK="+mark)) {
			pids = append(pids, d.Name())
		}
	}
	return pids
}

// However and whenever a gateway ends, be it while it is forking, its children end, and theirs.
func TestNoOrphansAfterSIGKILL(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		mark := fmt.Sprintf("%d-%d", os.Getpid(), round)
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), gatewayMark+"="+mark)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines, n := bufio.NewScanner(stdout), 0; n < 5+round && lines.Scan(); n++ {
			if lines.Text() != "started" {
				t.Fatal(lines.Text())
			}
		}
		if len(marked(t, mark)) < 2 {
			t.Error("there are no children")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for end := time.Now().Add(3 * time.Minute); ; <-time.After(5 * time.Millisecond) {
			left := marked(t, mark)
			if len(left) == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("orphans: %v", left)
			}
		}
	}
}
