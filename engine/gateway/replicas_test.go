package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

// party is what replicas hear one another through, and reach one another by.
type party struct {
	mu    sync.Mutex
	ears  map[int]func([]byte)
	next  int
	sent  atomic.Int64      // requests to others
	names map[string]bool   // who answers
	doors map[string]string // host:port of each replica's listener for the others, by name
}

func (p *party) Tell(data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fn := range p.ears {
		fn(data)
	}
	return nil
}

func (p *party) Hear(fn func([]byte)) (func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ears == nil {
		p.ears, p.doors = map[int]func([]byte){}, map[string]string{}
	}
	p.next++
	n := p.next
	p.ears[n] = fn
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.ears, n)
	}, nil
}

// Answer has calls to name answered.
func (p *party) Answer(name string) (func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		p.names = map[string]bool{}
	}
	p.names[name] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.names, name)
	}, nil
}

// Call reports whether somebody answers to name.
func (p *party) Call(_ context.Context, name string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names[name], nil
}

// RoundTrip sends a request to the replica that its host names.
func (p *party) RoundTrip(r *http.Request) (*http.Response, error) {
	p.sent.Add(1)
	p.mu.Lock()
	r.URL.Host = p.doors[r.URL.Host]
	p.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// guest is a replica among others.
type guest struct {
	*replica

	directory *replicas.Directory
	peers     *httptest.Server
}

// join boots a replica of that name, which others reach.
func (s *site) join(p *party, name journal.ReplicaID, up gateway.Upstream) *guest {
	s.tb.Helper()
	g := &guest{}
	var up1 atomic.Pointer[replica] // once it is there
	dir, err := replicas.Start(s.tb.Context(), replicas.Options{
		Self: name, Boot: string(name) + "1", URL: "http://" + string(name) + "/mcp", Key: []byte("k"), Wire: p,
		CatchUp: func(ctx context.Context) error {
			if r := up1.Load(); r != nil {
				return r.follower.CatchUp(ctx)
			}
			return nil
		},
		Folded: func() (journal.Seq, uint64) {
			if r := up1.Load(); r != nil {
				return r.follower.Basis().Seq, 0
			}
			return 0, 0
		},
		Fence: time.Minute,
	})
	must(s.tb, err)
	g.directory = dir
	g.replica = s.boot(up, setup{
		waker:   func(o *gateway.WakerOptions) { o.Replica, o.Replicas = name, dir },
		engine:  func(o *engine.Options) { o.Replica = name },
		gateway: func(o *gateway.Options) { o.Peers = p },
	})
	up1.Store(g.replica)
	g.peers = httptest.NewServer(g.Peer())
	p.mu.Lock()
	p.doors[string(name)] = g.peers.Listener.Addr().String()
	p.mu.Unlock()
	s.tb.Cleanup(g.leave)
	return g
}

// hangUp lets the replica's port refuse connections, and cuts those that there are.
func (g *guest) hangUp() {
	_ = g.peers.Listener.Close() // again, perhaps
	g.peers.CloseClientConnections()
}

// leave ends the replica as SIGKILL would.
func (g *guest) leave() {
	if g.ended {
		return
	}
	g.hangUp()
	g.kill()
	g.peers.Close()
	g.directory.Close()
}

// roundRobin sends each request to the next of the replicas that are there.
type roundRobin struct {
	next atomic.Uint64
	mu   sync.Mutex
	all  []http.Handler
}

func (b *roundRobin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	h := b.all[b.next.Add(1)%uint64(len(b.all))]
	b.mu.Unlock()
	h.ServeHTTP(w, r)
}

func (b *roundRobin) to(all ...http.Handler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = all
}

// asking makes servers with a tool that asks the user, one that adds a tool, and one that never answers.
func asking(held chan<- struct{}, release <-chan struct{}) gateway.ServerFactory {
	return func(engine.InstanceContext) (*mcp.Server, error) {
		srv := mcp.NewServer(&mcp.Implementation{Name: "asking", Version: "1"}, nil)
		mcp.AddTool(srv, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, in say) (*mcp.CallToolResult, any, error) {
			res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: in.Text, RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"to": map[string]any{"type": "string"}}}})
			if err != nil {
				return nil, nil, err
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Content["to"].(string)}}}, nil, nil
		})
		mcp.AddTool(srv, &mcp.Tool{Name: "grow"}, func(context.Context, *mcp.CallToolRequest, say) (*mcp.CallToolResult, any, error) {
			mcp.AddTool(srv, &mcp.Tool{Name: "grown"}, echo)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "grown"}}}, nil, nil
		})
		mcp.AddTool(srv, &mcp.Tool{Name: "hold"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ say) (*mcp.CallToolResult, any, error) {
			held <- struct{}{}
			select {
			case <-ctx.Done():
			case <-release:
			}
			return nil, nil, context.Canceled
		})
		return srv, nil
	}
}

// TestForwardingBothWays: with servers in one process, a client whose every request lands on another replica than the one
// before is asked questions in the middle of its calls, answers them, and hears notifications.
func TestForwardingBothWays(t *testing.T) {
	s, p, b := newSite(t), &party{}, &roundRobin{}
	up := gateway.NewInProcess(asking(nil, nil))
	one, two, three := s.join(p, "one", up), s.join(p, "two", up), s.join(p, "three", up)
	b.to(one.Gateway, two.Gateway, three.Gateway)
	s.door.open(b)
	heard := make(chan string, 10)
	cs := s.client(func(o *mcp.ClientOptions) {
		o.ElicitationHandler = func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"to": "re: " + r.Params.Message}}, nil
		}
		o.ToolListChangedHandler = func(context.Context, *mcp.ToolListChangedRequest) { heard <- "changed" }
	})
	for range 6 {
		if got := call(t, cs, "ask", "who"); got != "re: who" {
			t.Errorf("%q", got)
		}
	}
	_ = call(t, cs, "grow", "")
	expect(t, heard, "changed")
	for _, g := range []*guest{one, two, three} {
		g.flush()
		for _, x := range g.engine.List() {
			if x.Epoch != 1 {
				t.Errorf("the session is at epoch %d: it was moved", x.Epoch)
			}
		}
	}
}

// TestOwnerDiesInACall: the client is told that nobody knows what became of its call, and the next one is answered by
// whoever took the session over.
func TestOwnerDiesInACall(t *testing.T) {
	s, p, b := newSite(t), &party{}, &roundRobin{}
	held, release := make(chan struct{}, 1), make(chan struct{})
	up := gateway.NewInProcess(asking(held, release))
	one, two := s.join(p, "one", up), s.join(p, "two", up)
	b.to(one.Gateway)
	s.door.open(b)
	cs := s.client(func(o *mcp.ClientOptions) {
		o.ElicitationHandler = func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"to": "here"}}, nil
		}
	})
	b.to(two.Gateway)
	failed := make(chan error, 1)
	go func() {
		_, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "hold", Arguments: say{"x"}})
		failed <- err
	}()
	<-held
	one.hangUp()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "may or may not have been executed") {
		t.Errorf("the call under way: %v", err)
	}
	close(release)
	one.leave()
	if got := call(t, cs, "ask", "where"); got != "here" {
		t.Errorf("%q", got)
	}
}

// TestTwoTakeOverAtOnce: of two replicas that find the owner gone at once, one serves and the other forwards to it.
func TestTwoTakeOverAtOnce(t *testing.T) {
	s, p := newSite(t), &party{}
	up := gateway.NewInProcess(asking(nil, nil))
	one, two, three := s.join(p, "one", up), s.join(p, "two", up), s.join(p, "three", up)
	s.door.open(one.Gateway)
	var ids []string
	for range 10 {
		ids = append(ids, s.session())
	}
	one.leave()
	doors := []*httptest.Server{httptest.NewServer(two.Gateway), httptest.NewServer(three.Gateway)}
	var calls sync.WaitGroup
	for i, id := range ids {
		for j, d := range doors {
			calls.Go(func() {
				list := `{"jsonrpc":"2.0","id":` + string(rune('1'+j)) + `,"method":"tools/list"}`
				if r := rawTo(t, d.URL, "POST", list, post("Mcp-Session-Id", id)...); r.status != 200 || !strings.Contains(r.body, `"ask"`) {
					t.Errorf("session %d at door %d: %d %s", i, j, r.status, r.body)
				}
			})
		}
	}
	calls.Wait()
	for _, d := range doors {
		d.Close()
	}
	two.flush()
	for _, x := range two.engine.List() {
		if x.Epoch != 2 {
			t.Errorf("a session is at epoch %d", x.Epoch)
		}
	}
}

// TestCutOff: a replica that the stream does not answer serves no session of its process, says so, and holds streams back
// instead of refusing them.
func TestCutOff(t *testing.T) {
	s := newSite(t)
	var cut atomic.Bool
	dir, err := replicas.Start(t.Context(), replicas.Options{
		Self: "a", Boot: "1", URL: "http://a/mcp", Key: []byte("k"), Wire: &party{}, Fence: 100 * time.Millisecond,
		CatchUp: func(context.Context) error {
			if cut.Load() {
				return errors.New("cut")
			}
			return nil
		},
		Folded: func() (journal.Seq, uint64) { return 0, 0 },
	})
	must(t, err)
	defer dir.Close()
	s.boot(gateway.NewInProcess(asking(nil, nil)), setup{waker: func(o *gateway.WakerOptions) { o.Replicas = dir }})
	id := s.session()
	cut.Store(true)
	for dir.May() == nil {
		<-time.After(5 * time.Millisecond)
	}
	answered := make(chan reply, 1)
	go func() {
		answered <- rawTo(t, s.door.url(), "POST", `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, post("Mcp-Session-Id", id)...)
	}()
	select {
	case r := <-answered:
		t.Errorf("served while cut off: %d %s", r.status, r.body)
	case <-time.After(100 * time.Millisecond): // it waits
	}
	cut.Store(false)
	if r := <-answered; r.status != 200 {
		t.Errorf("after that: %d %s", r.status, r.body)
	}
}
