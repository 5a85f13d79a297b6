package gateway_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// listening is a GET stream.
type listening struct {
	tb     testing.TB
	resp   *http.Response
	lines  chan string
	cancel context.CancelFunc
}

func (s *site) listen(id string, header ...string) *listening {
	s.tb.Helper()
	ctx, cancel := context.WithCancel(s.tb.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", s.door.url(), nil)
	must(s.tb, err)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Mcp-Session-Id", id)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r) //nolint:bodyclose // closed with the test
	must(s.tb, err)
	l := &listening{tb: s.tb, resp: resp, lines: make(chan string, 1000), cancel: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(l.lines)
		sc := bufio.NewScanner(resp.Body)
		for sc.Scan() {
			l.lines <- sc.Text()
		}
	}()
	s.tb.Cleanup(func() {
		cancel()
		resp.Body.Close()
		<-done
	})
	return l
}

// wait returns the next line that begins with prefix.
func (l *listening) wait(prefix string) string {
	l.tb.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				l.tb.Fatalf("the stream ended before %q", prefix)
			}
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-late:
			l.tb.Fatalf("no %q", prefix)
		}
	}
}

// ended waits for the end of the stream.
func (l *listening) ended() {
	l.tb.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-l.lines:
			if !ok {
				return
			}
		case <-late:
			l.tb.Fatal("the stream does not end")
		}
	}
}

func eventually(tb testing.TB, what func() bool) {
	tb.Helper()
	for range 1000 {
		if what() {
			return
		}
		pause()
	}
	tb.Error("not in time")
}

func pause() { <-time.After(10 * time.Millisecond) }
