package daemon_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
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
