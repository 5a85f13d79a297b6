package daemon_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// as asks for a page under the name of another host.
func (r *running) as(host, url string) int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode == http.StatusForbidden && strings.Contains(string(text), "dormouse_") {
		r.t.Errorf("%s as %s: %v %s", url, host, err, text)
	}
	return res.StatusCode
}

// A web page that has its name resolve to 127.0.0.1 reads nothing of the listeners there: neither metrics, which want no
// token, nor the readiness.
func TestRebindingAtTheListeners(t *testing.T) {
	t.Parallel()
	r := run(t, func(c *daemon.Config) { c.AllowedHosts = []string{"ops.example"} })
	_, port, _ := strings.Cut(r.status.Admin, ":")
	for host, want := range map[string]int{
		r.status.Admin: 200, "localhost": 200, "localhost:" + port: 200, "[::1]:" + port: 200, "ops.example:" + port: 200,
		"10.1.2.3": 200, "10.1.2.3:8443": 200, "[fd00::1]:8443": 200, // a proxy of the same pod
		"evil.example": 403, "evil.example:" + port: 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:" + port: 403,
	} {
		for _, url := range []string{"http://" + r.status.Admin + "/metrics", "http://" + r.status.Admin + "/", "http://" + r.status.Listen + "/readyz"} {
			if status := r.as(host, url); status != want {
				t.Errorf("%s as %s: %d", url, host, status)
			}
		}
	}
}

// What is not let through is counted by its reason.
func TestDenialsAreCounted(t *testing.T) {
	t.Parallel()
	r := run(t, func(c *daemon.Config) {
		c.Limits = gateway.Limits{PerPrincipal: gateway.Rate{N: 1, Per: time.Hour}}
		c.MaxSessions = 1
	})
	_, _, h := r.mcp("", initialize)
	session := h.Get("Mcp-Session-Id")
	for what, want := range map[string]int{session: 200, "nobody's": 404} {
		if status, text, _ := r.mcp(what, listTools); status != want {
			t.Errorf("%q: %d %s", what, status, text)
		}
	}
	if status, text, _ := r.mcp(session, listTools); status != 429 {
		t.Errorf("the second request: %d %s", status, text)
	}
	r.as("evil.example", "http://"+r.status.Listen+"/mcp")
	_, text := r.admin(http.MethodGet, "/metrics", "")
	for _, want := range []string{`"principal-rate"} 1`, `"unknown-session"} 1`, `"host"} 1`, `"tenant-rate"} 0`} {
		if !strings.Contains(text, "dormouse_requests_denied_total{reason="+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, session) {
		t.Error("a session ID in the metrics")
	}
	if strings.Contains(text, "dormouse_upstream_reachable") {
		t.Error("the built-in tools have no upstream that could be out of reach")
	}
}

// Headers that do not come, or do not end, hold no connection: not at the clients' listener and not at the operator's.
func TestSlowAndEndlessHeaders(t *testing.T) {
	t.Parallel()
	r := run(t, nil)
	for _, address := range []string{r.status.Listen, r.status.Admin} {
		for name, c := range map[string]struct{ head, want string }{
			"slow":    {"POST /mcp HTTP/1.1\r\nHost: localhost\r\n", ""},
			"endless": {"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-Many: "+strings.Repeat("a", 1000)+"\r\n", 100), "431"},
		} {
			t.Run(name+" at "+address, func(t *testing.T) {
				t.Parallel()
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(conn, c.head) // what is too long may be refused before it is read
				got, err := io.ReadAll(conn)
				if errors.Is(err, os.ErrDeadlineExceeded) || c.want != "" && len(got) > 0 && !strings.Contains(string(got), c.want) {
					t.Errorf("%v: %.100q", err, got)
				}
			})
		}
	}
}
