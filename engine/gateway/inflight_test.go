package gateway_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// A call that was in flight when the gateway died ends with an error as soon as the client has found the gateway again: clients
// of 2025-11-25 come back with the event ID that the answer began with.
func TestInFlightCallOfAClientIsSettled(t *testing.T) {
	d := newDoor(t)
	w := newWatched(t, d)
	s := newSite(t)
	r := s.boot(httpUpstream(t, d.url()))
	half := make(chan string, 1)
	cs := s.client(func(o *mcp.ClientOptions) {
		o.ProgressNotificationHandler = func(context.Context, *mcp.ProgressNotificationClientRequest) { half <- "half" }
	})
	if v := cs.InitializeResult().ProtocolVersion; v != "2025-11-25" {
		t.Fatal(v)
	}
	for range 2 {
		failed := make(chan error, 1)
		go func() {
			p := &mcp.CallToolParams{Name: "hold", Arguments: say{"x"}}
			p.SetProgressToken("p")
			_, err := cs.CallTool(t.Context(), p)
			failed <- err
		}()
		expect(t, w.heard, "held")
		expect(t, half, "half") // the client has the beginning of the answer
		r.kill()
		w.gone()
		w = newWatched(t, d)
		r = s.boot(httpUpstream(t, d.url()))
		select {
		case err := <-failed:
			if err == nil || !strings.Contains(err.Error(), "may or may not have been executed") {
				t.Errorf("%v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the call hangs")
		}
		if got := call(t, cs, "log", "x"); got != "logged" {
			t.Errorf("afterwards: %q", got)
		}
	}
}

// When it is the server that dies, the client is told on the connection that it has, whatever its version.
func TestInFlightCallIsSettledAtOnce(t *testing.T) {
	for _, version := range []string{"2025-03-26", "2025-06-18", "2025-11-25"} {
		t.Run(version, func(t *testing.T) {
			up := newScripted(t, func(w http.ResponseWriter, _ *http.Request, m msg) {
				if m.ID == nil {
					w.WriteHeader(405)
					return
				}
				sse(w, progress)
				cut()
			})
			up.version = version
			s := newSite(t)
			s.boot(httpUpstream(t, up.door.url()), setup{waker: func(o *gateway.WakerOptions) { o.UpstreamWait = time.Second }})
			cs := s.client()
			if got := cs.InitializeResult().ProtocolVersion; got != version {
				t.Fatal(got)
			}
			_, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: say{"x"}})
			if err == nil || !strings.Contains(err.Error(), "may or may not have been executed") {
				t.Errorf("%v", err)
			}
			if err := cs.Ping(t.Context(), nil); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// An older client has no event ID to come back with. The gateway's death breaks its connection, which the SDK's client reports as
// an error of the call and the end of nothing else.
func TestInFlightCallOfAnOlderClient(t *testing.T) {
	for _, version := range []string{"2025-03-26", "2025-06-18"} {
		t.Run(version, func(t *testing.T) {
			began := make(chan string, 1)
			up := newScripted(t, func(w http.ResponseWriter, r *http.Request, m msg) {
				if m.ID == nil {
					w.WriteHeader(405)
					return
				}
				sse(w, `data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}`)
				<-r.Context().Done()
			})
			up.version = version
			s := newSite(t)
			r := s.boot(httpUpstream(t, up.door.url()))
			cs := s.client(func(o *mcp.ClientOptions) {
				o.ProgressNotificationHandler = func(context.Context, *mcp.ProgressNotificationClientRequest) { began <- "began" }
			})
			ctx, cancel := context.WithTimeout(t.Context(), testPatience) // the bound: the client's own patience
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				p := &mcp.CallToolParams{Name: "echo", Arguments: say{"x"}}
				p.SetProgressToken("p")
				_, err := cs.CallTool(ctx, p)
				failed <- err
			}()
			expect(t, began, "began") // the client has the beginning of the answer
			r.kill()
			s.boot(httpUpstream(t, up.door.url()))
			err := <-failed
			t.Logf("%s: %v", version, err)
			if err == nil {
				t.Error("a call that nobody answered has succeeded")
			}
			if err := cs.Ping(t.Context(), nil); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// A late answer to a question of a server that has died completes nothing in the one after it, though both count from one.
func TestLateAnswerOfAClient(t *testing.T) {
	d := newDoor(t)
	var answers []string
	ask := func(name string) *watched {
		w := newWatched(t, d)
		mcp.AddTool(w.Server, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ say) (*mcp.CallToolResult, any, error) {
			ctx, cancel := w.mortal(ctx)
			defer cancel()
			res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: name, RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"to": map[string]any{"type": "string"}}}})
			if err != nil {
				return nil, nil, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Content["to"].(string)}}}, nil, nil
		})
		return w
	}
	w := ask("first")
	s := newSite(t)
	var log lines
	s.boot(httpUpstream(t, d.url()), setup{waker: func(o *gateway.WakerOptions) { o.Logger = zerolog.New(&log) }})
	asked, hold := make(chan string, 2), make(chan struct{})
	var late sync.Once
	cs := s.client(func(o *mcp.ClientOptions) {
		o.ElicitationHandler = func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked <- r.Params.Message
			if r.Params.Message == "first" {
				<-hold
			} else {
				late.Do(func() { close(hold) }) // the late answer to the first goes out while the second is open
				eventually(t, func() bool { return strings.Contains(log.String(), "late answers") })
			}
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"to": r.Params.Message}}, nil
		}
	})
	first := make(chan struct{})
	go func() {
		defer close(first)
		_, _ = cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "ask", Arguments: say{"x"}})
	}()
	expect(t, asked, "first")
	w.gone()
	ask("second")
	answers = append(answers, call(t, cs, "ask", "x"))
	<-first
	if !slices.Equal(answers, []string{"second"}) {
		t.Errorf("%q", answers)
	}
}
