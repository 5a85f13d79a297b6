package daemon_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// TestEraseTenant erases a tenant under its clients: their requests get 404 from then on, their streams end, and
// they may come back as new sessions.
func TestEraseTenant(t *testing.T) {
	t.Parallel()
	r := run(t, nil)
	status, _, h := r.mcp("", initialize)
	session := h.Get("Mcp-Session-Id")
	if status != http.StatusOK {
		t.Fatalf("initialize: %d", status)
	}
	if status, _, _ := r.mcp(session, listTools); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}
	stream := r.stream(session)
	defer stream.Close()
	client, err := control.Connect(t.Context(), r.dir)
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := client.Tenant(t.Context(), "acme")
	if err != nil || tenant.Sessions != 1 || tenant.State != control.TenantActive || len(tenant.Keys) != 1 {
		t.Fatalf("%+v, %v", tenant, err)
	}
	e, err := client.EraseTenant(t.Context(), tenant.Tenant, "somebody")
	if err != nil || e.Sessions != 1 || e.Deleted != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	if status, _, _ := r.mcp(session, listTools); status != http.StatusNotFound {
		t.Errorf("after: %d", status)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Logf("the stream was cut: %v", err)
	}
	status, _, h = r.mcp("", initialize)
	if again := h.Get("Mcp-Session-Id"); status != http.StatusOK || again == session {
		t.Errorf("a new session: %d", status)
	} else if status, _, _ := r.mcp(again, listTools); status != http.StatusOK {
		t.Errorf("it answers %d", status)
	}
	now, err := client.Tenant(t.Context(), tenant.Tenant[:8])
	if err != nil || now.State != control.TenantActive || now.Keys[0].ID == tenant.Keys[0].ID {
		t.Errorf("%+v, %v", now, err)
	}
}

// stream opens the session's GET stream.
func (r *running) stream(session string) io.ReadCloser {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.status.Listen+"/mcp", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Accept": "text/event-stream", "Mcp-Session-Id": session,
		"X-N8n-Url": r.n8n, "X-N8n-Key": "a-key-of-acme", "X-Instance-Id": "acme",
	} {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		r.t.Fatalf("stream: %s", res.Status)
	}
	return res.Body
}

// TestRotateUnderTraffic rotates both rings while clients begin sessions and call: nothing fails.
func TestRotateUnderTraffic(t *testing.T) {
	t.Parallel()
	r := run(t, nil)
	client, err := control.Connect(t.Context(), r.dir)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for range 5 {
			if _, err = client.Rotate(t.Context(), control.RotateQuery{Rings: []string{"journal", "tenant"}}); err != nil {
				break
			}
		}
		done <- err
	}()
	var sessions []string
	for {
		status, _, h := r.mcp("", initialize)
		if status != http.StatusOK {
			t.Fatalf("initialize: %d", status)
		}
		sessions = append(sessions, h.Get("Mcp-Session-Id"))
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range sessions {
				if status, _, _ := r.mcp(s, listTools); status != http.StatusOK {
					t.Errorf("a session from the time of the rotations: %d", status)
				}
			}
			k, err := client.Keys(t.Context(), true)
			if err != nil || len(k.Keys) != 12 || k.Keys[5].State != control.KeyCurrent || *k.Keys[11].Wraps != 1 {
				t.Errorf("%+v, %v", k, err)
			}
			return
		default:
		}
	}
}

// TestReplicaWithoutTheKey: of two replicas one rotates without having prepared the other, which stops and says
// which key it lacks. With the key file it starts again, and has all sessions.
func TestReplicaWithoutTheKey(t *testing.T) {
	t.Parallel()
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
	keys := []string{filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "keys")}
	first := seal.GenerateKeyring()
	config := func(i int) daemon.Config {
		return daemon.Config{
			Store:   store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true, NATSURL: n.ClientURL(), KeyFile: keys[i]},
			Version: "test", Replica: journal.ReplicaID("r" + strconv.Itoa(i)), Listen: "127.0.0.1:0",
		}
	}
	give := func(i int, k *seal.Keyring) {
		if err := seal.Save(keys[i], k); err != nil {
			t.Fatal(err)
		}
	}
	give(0, first)
	give(1, first)
	a := run(t, func(c *daemon.Config) { admin := c.AdminListen; *c = config(0); c.AdminListen = admin })
	if status, _, _ := a.mcp("", initialize); status != http.StatusOK {
		t.Fatal(status)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := config(1)
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx, c) }()
	awaitReady(t, c.Store.Dir)

	client, err := control.Connect(t.Context(), a.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Rotate(t.Context(), control.RotateQuery{Rings: []string{"journal"}}); err != nil {
		t.Fatal(err)
	}
	err = <-ended
	lacks, ok := errors.AsType[*seal.RingKeyError](err)
	if !ok || lacks.ID != "j2" || lacks.Ring != seal.RingJournal {
		t.Errorf("b ended with %v", err)
	}
	if err := daemon.Run(ctx, c); !errors.Is(err, journal.ErrKeyMissing) {
		t.Errorf("b started again: %v", err)
	}
	next, err := seal.Load(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	give(1, next)
	go func() { ended <- daemon.Run(ctx, c) }()
	if s := awaitReady(t, c.Store.Dir); s.Sessions != 1 {
		t.Errorf("%d sessions", s.Sessions)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("b ended with %v", err)
	}
}

func awaitReady(t *testing.T, dir string) (s control.Status) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.State != "ready" {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("never ready")
		}
		if client, err := control.Connect(t.Context(), dir); err == nil {
			s, _ = client.Status(t.Context())
		}
	}
	return s
}
