package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
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
	late := time.After(testPatience)
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
	late := time.After(testPatience)
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
	for end := time.Now().Add(testPatience); time.Now().Before(end); {
		if what() {
			return
		}
		pause()
	}
	tb.Error("not in time")
}

func pause() { <-time.After(10 * time.Millisecond) }

// A GET stream of a client that understands it begins with an event ID that no connection had before, whatever the
// upstream offers; whoever comes back with it, after a crash too, listens on.
func TestGETStreamIsPrimed(t *testing.T) {
	up := newStubborn(t) // offers no GET stream
	s := newSite(t)
	r := s.boot(httpUpstream(t, up.door.url()))
	old := s.listen(s.session())
	up.version = "2025-11-25"
	id := s.session()
	seen := map[string]bool{}
	var last []string
	for i := range 4 {
		l := s.listen(id, last...)
		at := strings.TrimPrefix(l.wait("id: "), "id: ")
		if data := l.wait("data:"); data != "data: " || seen[at] {
			t.Errorf("%q after %q, seen before: %v", data, at, seen[at])
		}
		seen[at], last = true, []string{"Last-Event-Id", at}
		if i == 1 {
			r.kill()
			old.ended()
			r = s.boot(httpUpstream(t, up.door.url()))
		}
	}
	for line := range old.lines {
		if !strings.HasPrefix(line, ":") && line != "" {
			t.Errorf("a client of 2025-06-18 got %q", line)
		}
	}
}

// The Go SDK's client gives its session up when its GET stream breaks too often without a new event ID.
func TestClientKeepsItsSessionWhenStreamsBreak(t *testing.T) {
	s := newSite(t)
	s.boot(httpUpstream(t, newServer(t, mcp.StreamableHTTPOptions{}).url()))
	tr := &breaking{RoundTripper: &http.Transport{DisableKeepAlives: true}, breaks: 3, listening: make(chan struct{})}
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	cs, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: s.door.url(), HTTPClient: &http.Client{Transport: tr}, MaxRetries: 1,
	}, nil)
	must(t, err)
	defer cs.Close()
	select {
	case <-tr.listening:
	case <-time.After(testPatience):
		t.Error("the client does not listen any more")
	}
	if got := call(t, cs, "echo", "still here"); got != "still here" {
		t.Error(got)
	}
}

// breaking cuts the first GET streams off after what they begin with.
type breaking struct {
	http.RoundTripper

	breaks    int // left; GETs come one after the other
	listening chan struct{}
}

func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet {
		return resp, err
	}
	switch b.breaks--; {
	case b.breaks >= 0:
		resp.Body = &brief{ReadCloser: resp.Body}
	case b.breaks == -1:
		close(b.listening)
	}
	return resp, nil
}

// brief breaks after the first read.
type brief struct {
	io.ReadCloser

	read bool
}

func (b *brief) Read(p []byte) (int, error) {
	if b.read {
		return 0, io.ErrUnexpectedEOF
	}
	b.read = true
	return b.ReadCloser.Read(p)
}
