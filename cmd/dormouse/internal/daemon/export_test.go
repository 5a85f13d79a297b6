package daemon_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/daemon"
)

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) exports() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), "[SECURITY] session_export")
}

// An export that is refused is not made: no line of the security log says that sessions left.
func TestExportRefused(t *testing.T) {
	t.Parallel()
	log := &logged{}
	r := run(t, func(c *daemon.Config) { c.Logger = zerolog.New(log) })
	if status, text, _ := r.mcp("", initialize); status != http.StatusOK {
		t.Fatalf("initialize: %d %s", status, text)
	}
	for format, want := range map[string]int{"encrypted": http.StatusConflict, "Encrypted": http.StatusBadRequest, "snapshot": http.StatusBadRequest} {
		if status, text := r.admin(http.MethodPost, "/internal/export-sessions?format="+format, ""); status != want {
			t.Errorf("%s: %d %s", format, status, text)
		}
	}
	if n := log.exports(); n != 0 {
		t.Errorf("%d exports", n)
	}
	for _, query := range []string{"", "?format=", "?format=json"} {
		if status, text := r.admin(http.MethodPost, "/internal/export-sessions"+query, ""); status != http.StatusOK || !strings.Contains(text, `"exported":1`) {
			t.Errorf("%q: %d %s", query, status, text)
		}
	}
	if n := log.exports(); n != 3 {
		t.Errorf("%d exports of 3", n)
	}
}

// A body that cannot be read is a bad request, and not one that is too large.
func TestRestoreOfAnUnreadableBody(t *testing.T) {
	t.Parallel()
	r := run(t, nil)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.status.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /internal/restore-sessions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Transfer-Encoding: chunked\r\n\r\nno length\r\n", r.status.Admin, r.token)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("%d", res.StatusCode)
	}
}
