package control_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
)

// clients runs a test through the socket and in process: there is one way to answer.
func clients(t *testing.T, f *fixture, test func(t *testing.T, c *control.Client)) {
	t.Helper()
	t.Run("in process", func(t *testing.T) { test(t, control.InProcess(control.Handler(f.backend))) })
	t.Run("socket", func(t *testing.T) { test(t, overSocket(t, f, t.TempDir())) })
}

func overSocket(t *testing.T, f *fixture, dir string) *control.Client {
	t.Helper()
	l, path, err := control.Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: control.Handler(f.backend), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	d := control.Daemon{PID: os.Getpid(), Control: path}
	if err := control.WriteDaemon(dir, d); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { control.RemoveDaemon(dir, d) })
	c, err := control.Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, two := ref(0xab, 1), ref(0xab, 2)
	f.append(created(one, "acme"), created(two, "globex"), accessed(two, 1))
	f.live[one] = true
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		sessions, err := c.Sessions(t.Context())
		if err != nil || len(sessions) != 2 {
			t.Fatalf("%v, %v", sessions, err)
		}
		states := map[string]string{}
		for _, s := range sessions {
			states[s.Ref] = s.State + " " + s.Label
		}
		if states[one.String()] != "live acme" || states[two.String()] != "dormant globex" {
			t.Errorf("states: %v", states)
		}
		d, err := c.Session(t.Context(), two.String()[:4], 10)
		if err != nil || d.Calls != 1 || len(d.Events) != 2 || !strings.Contains(string(d.Client), "probe") {
			t.Errorf("session: %+v, %v", d, err)
		}
	})
}

func TestAbbreviations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, two := ref(0xab, 0xcd, 1), ref(0xab, 0xcd, 2)
	f.append(created(one, ""), created(two, ""))
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		for text, want := range map[string]int{
			"abcd": http.StatusConflict, "ffff": http.StatusNotFound, "abc": http.StatusBadRequest,
			"nothex": http.StatusBadRequest, strings.Repeat("a", 33): http.StatusBadRequest, "../../etc": http.StatusBadRequest,
		} {
			_, err := c.Session(t.Context(), text, 1)
			if p, ok := errors.AsType[*control.APIError](err); !ok || p.Status != want {
				t.Errorf("%s: %v, want status %d", text, err, want)
			}
		}
		if d, err := c.Session(t.Context(), "ABCD02", 1); err != nil || d.Ref != two.String() {
			t.Errorf("upper case: %v, %v", d.Ref, err)
		}
	})
}

func TestCloseAndEnded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := ref(0x12, 0x34)
	f.append(created(r, "acme"))
	c := control.InProcess(control.Handler(f.backend))
	if got, err := c.CloseSession(t.Context(), "1234"); err != nil || got != r.String() {
		t.Fatalf("close: %q, %v", got, err)
	}
	d, err := c.Session(t.Context(), "1234", 10)
	if err != nil || d.State != control.StateEnded || len(d.Events) != 2 || d.Events[1].Reason != "admin" {
		t.Errorf("an ended session is found in the history: %+v, %v", d, err)
	}
	_, err = c.CloseSession(t.Context(), "1234")
	if p, ok := errors.AsType[*control.APIError](err); !ok || p.Status != http.StatusConflict {
		t.Errorf("second close: %v", err)
	}
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ready = false
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		if s, err := c.Status(t.Context()); err != nil || s.State != "restoring" {
			t.Errorf("status: %+v, %v", s, err)
		}
		_, err := c.Sessions(t.Context())
		if err == nil || !strings.Contains(err.Error(), "restoring (folded 3 of 9)") {
			t.Errorf("sessions: %v", err)
		}
	})
}

func TestConnectWithoutDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := control.Connect(t.Context(), dir); !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := control.WriteDaemon(dir, control.Daemon{PID: 1, Control: filepath.Join(dir, "control.sock")}); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Connect(t.Context(), dir); !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("after a crash: %v", err)
	}
}

func TestLongSocketPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.append(created(ref(1), "far away"))
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := overSocket(t, f, dir)
	if s, err := c.Sessions(t.Context()); err != nil || len(s) != 1 {
		t.Errorf("%v, %v", s, err)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, path, err := control.Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, two := ref(1, 1), ref(2, 2)
	f.append(created(one, ""), created(two, ""))
	for i := range 10 {
		f.append(accessed(one, uint64(i+1)))
	}
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		collect := func(q control.LogQuery) (events []control.Event, omitted int) {
			omitted, err := c.Log(t.Context(), q, func(e control.Event) error { events = append(events, e); return nil })
			if err != nil {
				t.Fatalf("%+v: %v", q, err)
			}
			return events, omitted
		}
		if all, omitted := collect(control.LogQuery{}); len(all) != 12 || omitted != 0 {
			t.Errorf("all: %d, %d omitted", len(all), omitted)
		}
		last, omitted := collect(control.LogQuery{Limit: 3})
		if len(last) != 3 || omitted != 9 || last[2].Call == nil || last[2].Call.Number != 10 {
			t.Errorf("limit: %+v, %d omitted", last, omitted)
		}
		if some, _ := collect(control.LogQuery{Session: "0202"}); len(some) != 1 || some[0].Ref != two.String() {
			t.Errorf("session: %+v", some)
		}
		if some, _ := collect(control.LogQuery{Kinds: []journal.Kind{journal.KindCreated}}); len(some) != 2 {
			t.Errorf("kind: %+v", some)
		}
		if none, _ := collect(control.LogQuery{Since: time.Now().Add(time.Hour)}); len(none) != 0 {
			t.Errorf("since: %+v", none)
		}
	})
}

func TestFollow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := ref(5, 5)
	f.append(created(r, ""))
	clients(t, f, func(t *testing.T, c *control.Client) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := make(chan control.Event, 64)
		done := make(chan error, 1)
		go func() {
			_, err := c.Log(ctx, control.LogQuery{Follow: true, Limit: 1}, func(e control.Event) error { got <- e; return nil })
			done <- err
		}()
		<-got // the newest one that was there
		f.append(accessed(r, 77))
		if e := <-got; e.Call == nil || e.Call.Number != 77 {
			t.Errorf("followed: %+v", e)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the end of following is no error: %v", err)
		}
	})
}
