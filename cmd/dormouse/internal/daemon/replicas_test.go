package daemon_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// onNATS makes configurations of replicas that share a NATS server.
func onNATS(t *testing.T) (url string, config func(i int) daemon.Config) {
	t.Helper()
	n, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() }) // after the daemons
	if !n.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS is not ready")
	}
	keys, dir := filepath.Join(t.TempDir(), "keys"), t.TempDir()
	if err := seal.Save(keys, seal.GenerateKeyring()); err != nil {
		t.Fatal(err)
	}
	return n.ClientURL(), func(i int) daemon.Config {
		name := "r" + strconv.Itoa(i)
		return daemon.Config{
			Store:   store.Options{Dir: filepath.Join(dir, name), Create: true, NATSURL: n.ClientURL(), KeyFile: keys},
			Version: "test", Replica: journal.ReplicaID(name), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
			Replicas: daemon.Replicas{Listen: "127.0.0.1:0"},
		}
	}
}

// TestLossAcceptedElsewhere: a replica that has folded what another one accepts as lost restores anew by itself, and both
// go on with one history.
func TestLossAcceptedElsewhere(t *testing.T) {
	t.Parallel()
	url, config := onNATS(t)
	b := run(t, func(c *daemon.Config) { *c = config(1) })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	first := config(0)
	go func() { ended <- daemon.Run(ctx, first) }()
	awaitReady(t, first.Store.Dir)
	_, _, h := b.mcp("", initialize)
	session := h.Get("Mcp-Session-Id")
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// The first replica's first batch is gone; what comes after it stays.
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	client, err := js.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.Stream(t.Context(), "DORMOUSE_BATCHES")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	accepting := config(0)
	accepting.Store.AcceptLoss = true
	a := run(t, func(c *daemon.Config) { *c = accepting })

	pid := b.status.Started
	for b.status.Started.Equal(pid) || b.status.State != "ready" {
		<-time.After(10 * time.Millisecond)
		if client, err := control.Connect(t.Context(), b.dir); err == nil {
			b.status, _ = client.Status(t.Context())
		}
	}
	for _, r := range []*running{a, b} {
		if status, text, _ := r.mcp(session, listTools); status != http.StatusOK {
			t.Errorf("a session from before: %d %s", status, text)
		}
	}
	if _, _, h := a.mcp("", initialize); h.Get("Mcp-Session-Id") == "" {
		t.Error("no new session")
	} else if status, text, _ := b.mcp(h.Get("Mcp-Session-Id"), listTools); status != http.StatusOK {
		t.Errorf("a session from after: %d %s", status, text)
	}
}

// TestIdleReplicaSaysThatItIsThere: a replica that has nothing to write still writes now and then, so that its writer is
// not forgotten.
func TestIdleReplicaSaysThatItIsThere(t *testing.T) {
	t.Parallel()
	r := run(t, func(c *daemon.Config) { c.Replicas.Presence = 20 * time.Millisecond })
	client, err := control.Connect(t.Context(), r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for found := 0; found < 2; <-time.After(10 * time.Millisecond) {
		found = 0
		_, err := client.Log(t.Context(), control.LogQuery{}, func(e control.Event) error {
			if e.Kind == "replica-started" && e.Note.Text == "still there" {
				found++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestSharedDuties: two replicas take snapshots at once and trim, while one of them has nothing to write: nothing is harmed,
// and the idle one still writes afterwards.
func TestSharedDuties(t *testing.T) {
	t.Parallel()
	_, config := onNATS(t)
	with := func(i int) func(c *daemon.Config) {
		return func(c *daemon.Config) {
			*c = config(i)
			c.Snapshots = daemon.Snapshots{EveryTime: time.Hour, Retention: time.Millisecond}
		}
	}
	a, idle := run(t, with(0)), run(t, with(1))
	var clients []*control.Client
	for _, r := range []*running{a, idle} {
		c, err := control.Connect(t.Context(), r.dir)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	var sessions []string
	for range 6 {
		for range 5 {
			_, _, h := a.mcp("", initialize)
			sessions = append(sessions, h.Get("Mcp-Session-Id"))
		}
		var takers sync.WaitGroup
		for _, c := range clients {
			takers.Go(func() {
				if _, err := c.Snapshot(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		takers.Wait()
	}
	report, err := clients[0].Verify(t.Context(), false, func(audit.VerifyProgress) {})
	if err != nil || !report.Whole() || report.First < 2 {
		t.Errorf("%+v, %v: want it whole, and trimmed", report, err)
	}
	if status, text, _ := idle.mcp("", initialize); status != http.StatusOK {
		t.Errorf("the idle replica: %d %s", status, text)
	}
	for _, s := range sessions {
		if status, text, _ := idle.mcp(s, listTools); status != http.StatusOK {
			t.Fatalf("a session at the idle replica: %d %s", status, text)
		}
	}
}

// TestReplicaFigures: each replica tells of the other, of its lag and of the clock, on /readyz and in the metrics.
func TestReplicaFigures(t *testing.T) {
	t.Parallel()
	_, config := onNATS(t)
	a, b := run(t, func(c *daemon.Config) { *c = config(0) }), run(t, func(c *daemon.Config) { *c = config(1) })
	for _, r := range []*running{a, b} {
		for {
			status, text, _ := r.ask(http.MethodGet, "http://"+r.status.Listen+"/readyz", "", nil)
			if status == http.StatusOK && strings.Contains(text, `"others":1`) && strings.Contains(text, `"lag":{"batches":0,"events":0,"seconds":`) &&
				strings.Contains(text, `"clock":{"aheadMs":`) {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
		_, text := r.admin(http.MethodGet, "/metrics", "")
		for _, want := range []string{
			`dormouse_replicas{state="there"} 1`, "dormouse_standby_lag_batches 0", "dormouse_standby_lag_events 0",
			"dormouse_standby_lag_seconds ", "dormouse_clock_ahead_seconds ",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q among the metrics", want)
			}
		}
		client, err := control.Connect(t.Context(), r.dir)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := client.Status(t.Context()); err != nil || s.Replicas == nil || len(s.Replicas.Others) != 1 || s.Replicas.Others[0].State != "there" {
			t.Errorf("%+v, %v", s.Replicas, err)
		}
	}
}
