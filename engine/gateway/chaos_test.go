package gateway_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Clients call without a pause while the gateway and its upstream are killed by turns. No session is lost, no answer goes
// to another client, no call hangs.
func TestChaos(t *testing.T) {
	srv := newServer(t, mcp.StreamableHTTPOptions{})
	s := newSite(t)
	r := s.boot(httpUpstream(t, srv.url()))
	var clients []*mcp.ClientSession
	for range 10 {
		clients = append(clients, s.client())
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var done, failed atomic.Int64
	for i, cs := range clients {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				text := fmt.Sprint(i, "-", n)
				call, cancel := context.WithTimeout(context.WithoutCancel(ctx), testPatience)
				res, err := cs.CallTool(call, &mcp.CallToolParams{Name: "echo", Arguments: say{text}})
				hung := call.Err() != nil
				cancel()
				switch {
				case hung:
					t.Errorf("%s hung: %v", text, err)
				case err != nil:
					failed.Add(1)
				case res.Content[0].(*mcp.TextContent).Text != text:
					t.Errorf("%s got %v", text, res.Content[0])
				default:
					done.Add(1)
				}
			}
		})
	}
	for round := range 9 {
		<-time.After(100 * time.Millisecond)
		if round%3 != 1 {
			r.kill()
		}
		if round%3 != 0 {
			srv.restart()
		}
		if round%3 != 1 {
			r = s.boot(httpUpstream(t, srv.url()))
		}
	}
	<-time.After(100 * time.Millisecond)
	stop()
	wg.Wait()
	for i, cs := range clients {
		if got := call(t, cs, "echo", "end"); got != "end" {
			t.Errorf("%d: %q", i, got)
		}
	}
	if n := r.engine.SessionInfo().Sessions; n != 10 {
		t.Errorf("%d sessions", n)
	}
	t.Logf("%d calls answered, %d failed while something was down", done.Load(), failed.Load())
}
