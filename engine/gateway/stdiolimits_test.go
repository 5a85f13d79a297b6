package gateway_test

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// There are never more children than allowed: who has nothing to do makes way, and where all are at work the
// next one waits.
func TestStdioCount(t *testing.T) {
	s := newSite(t)
	up := stdioUpstream(t, stdio.Options{MaxChildren: 2, MaxStarting: 1}, "more")
	s.boot(up)
	var sessions []*mcp.ClientSession
	for range 5 {
		sessions = append(sessions, s.client())
	}
	for range 2 {
		for _, cs := range sessions {
			_ = call(t, cs, "pid", "")
			if n := up.Children(); n > 2 {
				t.Fatalf("%d children", n)
			}
		}
	}
	var all sync.WaitGroup
	for i, cs := range sessions {
		all.Go(func() {
			if res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: say{strconv.Itoa(i)}}); err != nil {
				t.Error(err, res)
			}
		})
	}
	all.Wait()
	busy := map[int]chan struct{}{}
	for i := range 2 {
		begun := make(chan struct{})
		busy[i] = make(chan struct{})
		go func() {
			defer close(busy[i])
			s.stream(`{"jsonrpc":"2.0","id":"s","method":"tools/call","params":{"_meta":{"progressToken":"p"},"name":"slow","arguments":{"text":""}}}`, sessions[i].ID(), func(line string) {
				if strings.Contains(line, "begun") {
					close(begun)
				}
			})
		}()
		<-begun
	}
	waits := make(chan error, 1)
	go func() {
		_, err := sessions[2].CallTool(t.Context(), &mcp.CallToolParams{Name: "pid", Arguments: say{}})
		waits <- err
	}()
	given := s.raw("POST", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"s"}}`, //nolint:misspell // the protocol's spelling
		post("Mcp-Session-Id", sessions[0].ID())...)
	if given.status != http.StatusAccepted {
		t.Error(given)
	}
	<-busy[0]
	must(t, <-waits)
	must(t, sessions[1].Close())
	<-busy[1]
}

// A command that never gets anywhere costs its client a bounded time, and the machine few starts.
func TestStdioHopeless(t *testing.T) {
	for name, c := range map[string]stdio.Options{
		"mute": {StartTimeout: 300 * time.Millisecond}, "short": {},
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			c.Logger = zerolog.New(&log)
			s := newSite(t)
			up := stdioUpstream(t, c, name)
			r := s.boot(up, setup{waker: func(o *gateway.WakerOptions) { o.UpstreamWait = time.Second }})
			got := s.raw("POST", initialize, post()...)
			if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
				t.Errorf("%d %s", got.status, got.body)
			}
			r.kill()
			must(t, up.Close())
			deaths := strings.Count(log.String(), "child died")
			if deaths == 0 || deaths > 6 {
				t.Errorf("%d starts: %s", deaths, log.String())
			}
			if name == "short" && !strings.Contains(log.String(), "there is no license") {
				t.Error(log.String())
			}
		})
	}
}

// A child that takes more memory than it may, says more than it may, or neither reads nor writes any more, is killed;
// its session goes on.
func TestStdioUnruly(t *testing.T) {
	for name, c := range map[string]struct {
		o          stdio.Options
		tool, text string
	}{
		"memory":  {stdio.Options{MaxMemory: 400 << 20}, "grow", "500"},
		"message": {stdio.Options{MaxMessage: 1 << 20}, "shout", "1100000"},
		"deaf":    {stdio.Options{}, "deaf", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "memory" && !canMeasure() {
				t.Skip("no /proc")
			}
			s := newSite(t)
			s.boot(stdioUpstream(t, c.o, "more"))
			cs := s.client()
			if _, err := cs.ListTools(t.Context(), nil); err != nil { // tells that pid may be repeated
				t.Fatal(err)
			}
			pid := call(t, cs, "pid", "")
			if res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: c.tool, Arguments: say{c.text}}); err == nil && name != "memory" {
				t.Error(res.Content)
			}
			gone(t, pid)
			if next := call(t, cs, "pid", ""); next == pid {
				t.Error("the same process")
			}
			if got := call(t, cs, "shout", "1000000"); len(got) != 1_000_000 {
				t.Errorf("%d bytes", len(got))
			}
		})
	}
}

func canMeasure() bool {
	_, err := os.Stat("/proc/self/statm")
	return err == nil
}
