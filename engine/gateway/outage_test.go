package gateway_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The log tells when the upstream turns unreachable and when it is back, once each, and never of its credentials.
func TestOutageIsTold(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	var log lines
	count := func(what string) int { return strings.Count(log.String(), what) }
	r := s.boot(httpUpstream(t, up.door.url()+"/mcp?key=SECRET"), setup{waker: func(o *gateway.WakerOptions) {
		o.Logger, o.UpstreamWait = zerolog.New(&log), 1
	}})
	const down, back = "the upstream cannot be reached", "the upstream answers again"
	up.door.shut()
	for range 3 {
		if got := s.raw("POST", initialize, post()...); got.status != http.StatusServiceUnavailable {
			t.Fatalf("while it is down: %d %s", got.status, got.body)
		}
	}
	up.door.open(up)
	for range 2 {
		s.session()
	}
	r.kill() // before the log is read
	if count(`"upstream":"`+up.door.url()+`/mcp"`) != 2 || count(`"message":"`+down) != 1 || count(back) != 1 || count("SECRET") != 0 {
		t.Errorf("log:\n%s", log.String())
	}
}

// The log asks whether an upstream that does not know initialize is an MCP server.
func TestNoEndpointIsTold(t *testing.T) {
	up := newDoor(t)
	up.open(http.NotFoundHandler())
	s := newSite(t)
	var log lines
	r := s.boot(httpUpstream(t, up.url()), setup{waker: func(o *gateway.WakerOptions) {
		o.Logger = zerolog.New(&log)
	}})
	for range 3 {
		if got := s.raw("POST", initialize, post()...); got.status != http.StatusNotFound {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	r.kill()
	if n := strings.Count(log.String(), "is this the MCP endpoint?"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}
