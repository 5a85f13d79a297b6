package gateway_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// What follows is between a client and a server of the official SDK.

// watched is a server that tells what it hears.
type watched struct {
	*mcp.Server

	door  *door
	heard chan string
	known chan struct{}   // closed when a client knows that its question was withdrawn
	dead  context.Context // ends what its tools do: closing a session waits for them
	die   context.CancelFunc
}

// mortal returns a context that also ends with the server.
func (w *watched) mortal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(w.dead, cancel)
	return ctx, func() { stop(); cancel() }
}

// newWatched returns a server at that address; its former sessions are lost.
func newWatched(t *testing.T, d *door) *watched {
	t.Helper()
	w := &watched{door: d, heard: make(chan string, 100), known: make(chan struct{})}
	w.dead, w.die = context.WithCancel(t.Context())
	w.Server = mcp.NewServer(&mcp.Implementation{Name: "watched", Version: "1"}, &mcp.ServerOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationServerRequest) {
			w.heard <- "progress " + r.Params.Message
		},
		SubscribeHandler: func(_ context.Context, r *mcp.SubscribeRequest) error {
			w.heard <- "subscribe " + r.Params.URI
			return nil
		},
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	mcp.AddTool(w.Server, &mcp.Tool{Name: "hold"}, func(ctx context.Context, r *mcp.CallToolRequest, _ say) (*mcp.CallToolResult, any, error) {
		if token := r.Params.GetProgressToken(); token != nil {
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Message: "half"}); err != nil {
				w.heard <- err.Error()
			}
		}
		w.heard <- "held"
		ctx, cancel := w.mortal(ctx)
		defer cancel()
		<-ctx.Done()
		w.heard <- "let go"
		return nil, nil, ctx.Err()
	})
	mcp.AddTool(w.Server, &mcp.Tool{Name: "withdraw"}, func(ctx context.Context, r *mcp.CallToolRequest, _ say) (*mcp.CallToolResult, any, error) {
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			<-time.After(50 * time.Millisecond)
			cancel()
		}()
		_, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "?", RequestedSchema: map[string]any{"type": "object"}})
		select { // the SDK says so behind the tool's back, and cannot any more when its stream has ended
		case <-w.known:
		case <-w.dead.Done():
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: err.Error()}}}, nil, nil
	})
	mcp.AddTool(w.Server, &mcp.Tool{Name: "log"}, func(ctx context.Context, r *mcp.CallToolRequest, _ say) (*mcp.CallToolResult, any, error) {
		for _, level := range []mcp.LoggingLevel{"info", "error"} { //nolint:staticcheck // deprecated in the protocol after ours
			if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Data: string(level)}); err != nil { //nolint:staticcheck // so is this
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "logged"}}}, nil, nil
	})
	w.AddResource(&mcp.Resource{URI: "test://a", Name: "a"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://a", Text: "A"}}}, nil
	})
	d.open(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return w.Server }, nil))
	t.Cleanup(w.gone)
	return w
}

// gone ends the server with its sessions.
func (w *watched) gone() {
	w.die()
	w.door.shut()
	for s := range w.Sessions() {
		_ = s.Close()
	}
}

// expect waits for what must come, whatever else does.
func expect(t *testing.T, heard <-chan string, want string) {
	t.Helper()
	late := time.After(testPatience)
	for {
		select {
		case got := <-heard:
			if got == want {
				return
			}
		case <-late:
			t.Fatalf("never heard: %s", want)
		}
	}
}

// Cancellation passes from the client to the tool, and from the server's question to the client.
func TestCancellationBothWays(t *testing.T) {
	w := newWatched(t, newDoor(t))
	s := newSite(t)
	s.boot(httpUpstream(t, w.door.url()))
	asked, withdrawn := make(chan string, 1), make(chan string, 1)
	cs := s.client(func(o *mcp.ClientOptions) {
		o.ElicitationHandler = func(ctx context.Context, _ *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked <- "asked"
			<-ctx.Done()
			close(w.known)
			withdrawn <- "withdrawn"
			return &mcp.ElicitResult{Action: "decline"}, nil
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "hold", Arguments: say{"x"}})
		failed <- err
	}()
	expect(t, w.heard, "held")
	cancel()
	expect(t, w.heard, "let go")
	if err := <-failed; err == nil {
		t.Error("the cancelled call succeeded") //nolint:misspell // the protocol's spelling
	}
	if got := call(t, cs, "withdraw", "x"); !strings.Contains(got, "canceled") {
		t.Errorf("%q", got)
	}
	expect(t, asked, "asked")
	expect(t, withdrawn, "withdrawn")
}

// Progress passes from the tool to the client that waits for it, and from the client to the server.
func TestProgressBothWays(t *testing.T) {
	w := newWatched(t, newDoor(t))
	s := newSite(t)
	s.boot(httpUpstream(t, w.door.url()))
	heard := make(chan string, 10)
	cs := s.client(func(o *mcp.ClientOptions) {
		o.ProgressNotificationHandler = func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			heard <- r.Params.Message
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := &mcp.CallToolParams{Name: "hold", Arguments: say{"x"}}
		p.SetProgressToken("p1")
		_, _ = cs.CallTool(ctx, p)
	}()
	expect(t, heard, "half")
	must(t, cs.NotifyProgress(t.Context(), &mcp.ProgressNotificationParams{ProgressToken: "p2", Message: "from the client"}))
	expect(t, w.heard, "progress from the client")
	cancel()
	<-done
}

// Log level and subscriptions hold over the death of the server and of the gateway.
func TestWishesOutliveTheServer(t *testing.T) {
	d := newDoor(t)
	w := newWatched(t, d)
	s := newSite(t)
	r := s.boot(httpUpstream(t, d.url()))
	heard := make(chan string, 100)
	cs := s.client(func(o *mcp.ClientOptions) {
		o.LoggingMessageHandler = func(_ context.Context, r *mcp.LoggingMessageRequest) { heard <- "log " + r.Params.Data.(string) } //nolint:staticcheck // deprecated in the protocol after ours
		o.ResourceUpdatedHandler = func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) { heard <- "updated " + r.Params.URI }
	})
	must(t, cs.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "warning"})) //nolint:staticcheck // so is this
	must(t, cs.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "test://a"}))
	check := func(what string, w *watched) {
		t.Helper()
		expect(t, w.heard, "subscribe test://a")
		_ = call(t, cs, "log", "x")
		for {
			got := <-heard
			if got == "log info" {
				t.Errorf("%s: the log level is forgotten", what)
			}
			if got == "log error" {
				break
			}
		}
		// The GET stream on which updates come may have to be opened again first.
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			must(t, w.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://a"}))
			select {
			case got := <-heard:
				if got == "updated test://a" {
					return
				}
			case <-tick.C:
			case <-t.Context().Done():
				t.Fatalf("%s: no updates", what)
			}
		}
	}
	check("at first", w)
	w.gone()
	w = newWatched(t, d)
	_ = call(t, cs, "log", "wake up")
	check("after the server's death", w)
	w.gone()
	r.kill()
	w = newWatched(t, d)
	s.boot(httpUpstream(t, d.url()))
	_ = call(t, cs, "log", "wake up")
	check("after both died", w)
}

// Keepalives come on the client's GET stream, do it no harm, and messages come between them.
func TestKeepalivesReachAClient(t *testing.T) {
	w := newWatched(t, newDoor(t))
	s := newSite(t)
	s.boot(httpUpstream(t, w.door.url()), setup{waker: func(o *gateway.WakerOptions) { o.Keepalive = 5 * time.Millisecond }})
	tr := &listeningFor{RoundTripper: &http.Transport{DisableKeepAlives: true}, heard: make(chan string, 1000)}
	heard := make(chan string, 100)
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ResourceUpdatedHandler: func(context.Context, *mcp.ResourceUpdatedNotificationRequest) { heard <- "updated" },
	})
	cs, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: s.door.url(), HTTPClient: &http.Client{Transport: tr}}, nil)
	must(t, err)
	defer cs.Close()
	must(t, cs.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "test://a"}))
	for range 3 {
		expect(t, tr.heard, ": keepalive")
	}
	for len(heard) == 0 { // until the upstream's stream is carried
		must(t, w.ResourceUpdated(t.Context(), &mcp.ResourceUpdatedNotificationParams{URI: "test://a"}))
		pause()
	}
	expect(t, tr.heard, ": keepalive")
}

// listeningFor tells of the keepalives on GET streams.
type listeningFor struct {
	http.RoundTripper

	heard chan string
}

func (l *listeningFor) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet {
		resp.Body = &keepalives{resp.Body, l.heard}
	}
	return resp, err
}

type keepalives struct {
	io.ReadCloser

	heard chan<- string
}

func (k *keepalives) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	for range strings.Count(string(p[:n]), ": keepalive\n") {
		select {
		case k.heard <- ": keepalive":
		default:
		}
	}
	return n, err
}
