package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// busy makes servers with a tool that works until it is told to stop, and says so; with "aloud" it says something first.
func busy(made *atomic.Int32, held, stopped chan<- struct{}) gateway.ServerFactory {
	return func(engine.InstanceContext) (*mcp.Server, error) {
		made.Add(1)
		srv := mcp.NewServer(&mcp.Implementation{Name: "busy", Version: "1"}, nil)
		mcp.AddTool(srv, &mcp.Tool{Name: "work"}, func(ctx context.Context, r *mcp.CallToolRequest, in say) (*mcp.CallToolResult, any, error) {
			if in.Text == "aloud" {
				if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1}); err != nil {
					return nil, nil, err
				}
			}
			held <- struct{}{}
			<-ctx.Done()
			stopped <- struct{}{}
			return nil, nil, ctx.Err()
		})
		mcp.AddTool(srv, &mcp.Tool{Name: "echo"}, echo)
		return srv, nil
	}
}

// TestFencedInACall: when the fence falls, a server of this process that works on a call is told to stop, and the client
// that nobody knows what became of it, whether the answer had begun or not. The session's server stays.
func TestFencedInACall(t *testing.T) {
	for _, how := range []string{"silently", "aloud"} {
		t.Run(how, func(t *testing.T) {
			var made atomic.Int32
			held, stopped := make(chan struct{}, 1), make(chan struct{}, 1)
			s, p := newSite(t), &party{}
			one := s.join(p, "one", gateway.NewInProcess(busy(&made, held, stopped)))
			s.door.open(one.Gateway)
			id := s.session()
			work := `{"jsonrpc":"2.0","id":"w","method":"tools/call","params":{"name":"work","arguments":{"text":"` + how + `"},"_meta":{"progressToken":"p"}}}`
			begun, answered := make(chan struct{}), make(chan string, 1)
			go func() { answered <- readAloud(t, s.door.url(), work, begun, post("Mcp-Session-Id", id)) }()
			<-held
			if how == "aloud" {
				<-begun
			}
			one.waker.Fenced()
			if text := <-answered; !strings.Contains(text, "-32051") || !strings.Contains(text, "may or may not") {
				t.Errorf("the call under way: %s", text)
			}
			<-stopped
			call := `{"jsonrpc":"2.0","id":"e","method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}`
			if r := s.raw("POST", call, post("Mcp-Session-Id", id)...); r.status != http.StatusOK || !strings.Contains(r.body, "hello") {
				t.Errorf("the next call: %d %s", r.status, r.body)
			}
			if n := made.Load(); n != 1 {
				t.Errorf("%d servers were made", n)
			}
		})
	}
}

// readAloud sends a POST and returns its whole answer; begun is closed when that begins.
func readAloud(t *testing.T, url, body string, begun chan<- struct{}, header []string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	close(begun)
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// TestPortRefuses: a replica whose port refuses connections, but which is there, keeps its sessions: requests wait for it.
func TestPortRefuses(t *testing.T) {
	s, p := newSite(t), &party{}
	up := gateway.NewInProcess(asking(nil, nil))
	one, two := s.join(p, "one", up), s.join(p, "two", up)
	s.door.open(one.Gateway)
	id := s.session()
	one.hangUp()
	s.door.open(two.Gateway)
	answered := make(chan reply, 1)
	go func() {
		answered <- rawTo(t, s.door.url(), "POST", `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, post("Mcp-Session-Id", id)...)
	}()
	for p.sent.Load() < 3 { // it was refused, and tried again
		select {
		case r := <-answered:
			t.Fatalf("answered by nobody: %d %s", r.status, r.body)
		case <-time.After(time.Millisecond):
		}
	}
	back := httptest.NewServer(one.Peer())
	defer back.Close()
	p.mu.Lock()
	p.doors["one"] = back.Listener.Addr().String()
	p.mu.Unlock()
	if r := <-answered; r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	two.flush()
	for _, x := range two.engine.List() {
		if x.Epoch != 1 {
			t.Errorf("the session is at epoch %d: it was taken from a replica that was there", x.Epoch)
		}
	}
}
