package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		os.Exit(beChild())
	}
	goleak.VerifyTestMain(m)
}

// testPatience bounds what a test waits for: far longer than it takes, however busy the machine is.
const testPatience = 2 * time.Minute

// site is what outlives a gateway: its journal, its keys and its address.
type site struct {
	tb      testing.TB
	journal *memory.Journal
	ring    *seal.Keyring
	door    *door
	log     zerolog.Logger
	boots   int
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	logger := zerolog.Nop()
	if os.Getenv("GATEWAY_TEST_LOG") != "" {
		logger = zerolog.New(zerolog.NewTestWriter(tb)).Level(zerolog.DebugLevel)
	}
	return &site{tb: tb, journal: memory.New(), ring: seal.GenerateKeyring(), door: newDoor(tb), log: logger}
}

// replica is one boot of a gateway with its engine, over the real committer, follower and vault.
type replica struct {
	*gateway.Gateway

	tb        testing.TB
	site      *site
	engine    *engine.Engine
	waker     *gateway.Waker
	committer *commit.Committer
	follower  *replay.Follower
	ended     bool
}

// setup changes a replica's options.
type setup struct {
	gateway func(*gateway.Options)
	waker   func(*gateway.WakerOptions)
	engine  func(*engine.Options)
}

// boot starts a replica and puts it behind the site's door.
func (s *site) boot(up gateway.Upstream, mods ...setup) *replica {
	s.tb.Helper()
	s.boots++
	r := &replica{tb: s.tb, site: s}
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(s.ring, w)
	must(s.tb, err)
	r.committer, err = commit.New(commit.Options{Port: s.journal, Encoder: sealer, Journal: s.journal.ID(), Writer: w})
	must(s.tb, err)
	r.follower, err = replay.Follow(s.tb.Context(), replay.FollowOptions{
		Source: s.journal, Opener: seal.NewBatchOpener(s.ring), Own: r.committer.Recent,
	})
	must(s.tb, err)
	key := s.ring.Name("event-ids")
	wo := gateway.WakerOptions{Upstream: up, Replica: "a", EventKey: key[:], Logger: s.log, UpstreamWait: 30 * time.Second}
	for _, m := range mods {
		if m.waker != nil {
			m.waker(&wo)
		}
	}
	r.waker, err = gateway.NewWaker(wo)
	must(s.tb, err)
	eo := engine.Options{
		Replica: "a", Appender: r.committer, Table: r.follower, Vault: seal.NewVault(s.ring, s.journal.Keys()),
		Waker: r.waker, Logger: s.log,
	}
	for _, m := range mods {
		if m.engine != nil {
			m.engine(&eo)
		}
	}
	r.engine, err = engine.New(eo)
	must(s.tb, err)
	g := gateway.Options{Engine: r.engine, Waker: r.waker, Logger: s.log}
	for _, m := range mods {
		if m.gateway != nil {
			m.gateway(&g)
		}
	}
	r.Gateway, err = gateway.New(g)
	must(s.tb, err)
	s.door.open(r)
	s.tb.Cleanup(r.kill)
	return r
}

// kill ends the replica as SIGKILL would: connections break, and what waits to be stored is lost.
func (r *replica) kill() {
	if r.ended {
		return
	}
	r.ended = true
	r.site.door.slam(r)
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.committer.Close(dead)
	_ = r.Shutdown(dead)
	_ = r.engine.Shutdown(context.Background())
	must(r.tb, r.follower.Close())
}

// flush waits until all accesses posted so far are folded, and returns the sessions' state.
func (r *replica) flush() {
	r.tb.Helper()
	must(r.tb, r.committer.Flush(r.tb.Context()))
	must(r.tb, r.follower.CatchUp(r.tb.Context()))
}

// door is an address that stays while what is behind it changes: a handler, or nothing, and then connections
// are cut and refused.
type door struct {
	tb   testing.TB
	addr string

	mu     sync.Mutex
	behind http.Handler
	server *http.Server
	served chan struct{}
	asked  []string // "METHOD status" of what came through
}

func newDoor(tb testing.TB) *door {
	tb.Helper()
	d := &door{tb: tb}
	for range 200 { // below the range from which the kernel takes the ports of others: it is shut now and then
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(18000))
		if l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", addr); err == nil {
			must(tb, l.Close())
			d.addr = addr
			break
		}
	}
	tb.Cleanup(func() { d.shut() })
	return d
}

func (d *door) url() string { return "http://" + d.addr }

func (d *door) open(h http.Handler) {
	d.shut()
	l, err := new(net.ListenConfig).Listen(d.tb.Context(), "tcp", d.addr)
	must(d.tb, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.behind, d.served = h, make(chan struct{})
	d.server = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go func(srv *http.Server, served chan struct{}) {
		defer close(served)
		_ = srv.Serve(l)
	}(d.server, d.served)
}

// shut cuts all connections and refuses new ones.
func (d *door) shut() {
	d.mu.Lock()
	srv, served := d.server, d.served
	d.server, d.behind = nil, nil
	d.mu.Unlock()
	if srv != nil {
		_ = srv.Close()
		<-served
	}
}

// slam shuts the door if h is behind it.
func (d *door) slam(h http.Handler) {
	d.mu.Lock()
	mine := d.behind == h
	d.mu.Unlock()
	if mine {
		d.shut()
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// httpUpstream returns the upstream at a URL, closed with the test.
func httpUpstream(tb testing.TB, url string, o ...gateway.HTTPUpstreamOptions) *gateway.HTTPUpstream {
	tb.Helper()
	o = append(o, gateway.HTTPUpstreamOptions{})
	up, err := gateway.NewHTTPUpstream(url, o[0])
	must(tb, err)
	tb.Cleanup(func() { _ = up.Close() })
	return up
}

// client is a Go SDK client through the door.
func (s *site) client(opts ...func(*mcp.ClientOptions)) *mcp.ClientSession {
	s.tb.Helper()
	return connect(s.tb, s.door.url(), nil, opts...)
}

func connect(tb testing.TB, url string, header http.Header, opts ...func(*mcp.ClientOptions)) *mcp.ClientSession {
	tb.Helper()
	var co mcp.ClientOptions
	for _, o := range opts {
		o(&co)
	}
	tr := &http.Transport{DisableKeepAlives: true} // or a call may be sent on a connection that a crash has just cut
	tb.Cleanup(tr.CloseIdleConnections)
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &co)
	cs, err := c.Connect(tb.Context(), &mcp.StreamableClientTransport{
		Endpoint: url, HTTPClient: &http.Client{Transport: headers{tr, header}},
	}, nil)
	must(tb, err)
	tb.Cleanup(func() { _ = cs.Close() })
	return cs
}

type headers struct {
	next http.RoundTripper
	set  http.Header
}

func (h headers) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(h.set) > 0 {
		r = r.Clone(r.Context())
		maps.Copy(r.Header, h.set)
	}
	return h.next.RoundTrip(r)
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   string
}

// raw sends one request as it stands.
func (s *site) raw(method, body string, header ...string) reply {
	s.tb.Helper()
	return rawTo(s.tb, s.door.url(), method, body, header...)
}

func rawTo(tb testing.TB, url, method, body string, header ...string) reply {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), testPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	must(tb, err)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Add(header[i], header[i+1])
		}
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	must(tb, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(tb, err)
	return reply{resp.StatusCode, resp.Header, string(data)}
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

func post(more ...string) []string {
	return append([]string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}, more...)
}

// session opens a session and returns its ID.
func (s *site) session(more ...string) string {
	s.tb.Helper()
	r := s.raw("POST", initialize, post(more...)...)
	if r.status != 200 {
		s.tb.Fatalf("initialize: %d %s", r.status, r.body)
	}
	id := r.header.Get("Mcp-Session-Id")
	n := s.raw("POST", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, post(append(more, "Mcp-Session-Id", id)...)...)
	if n.status != 202 {
		s.tb.Fatalf("initialized: %d %s", n.status, n.body)
	}
	return id
}

// server is a Go SDK server with a few tools, whose sessions are lost when it restarts.
type server struct {
	door *door
	mu   sync.Mutex
	opts mcp.StreamableHTTPOptions
	wrap func(http.Handler) http.Handler // stands in front of the server; nil = nothing
	made []*mcp.Server
}

func newServer(tb testing.TB, opts mcp.StreamableHTTPOptions) *server {
	tb.Helper()
	s := &server{door: newDoor(tb), opts: opts}
	tb.Cleanup(s.crash)
	s.restart()
	return s
}

func (s *server) url() string { return s.door.url() }

// crash cuts all connections and forgets all sessions.
func (s *server) crash() {
	s.mu.Lock()
	made := s.made
	s.made = nil
	s.mu.Unlock()
	s.door.shut()
	for _, m := range made {
		for cs := range m.Sessions() {
			_ = cs.Close()
		}
	}
}

// restart is a crash after which it is there again.
func (s *server) restart() {
	s.crash()
	m := newTools()
	s.mu.Lock()
	s.made = append(s.made, m)
	s.mu.Unlock()
	o := s.opts
	var h http.Handler = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return m }, &o)
	if s.wrap != nil {
		h = s.wrap(h)
	}
	s.door.open(counted{h, s.door})
}

// counted notes what a handler answers.
type counted struct {
	http.Handler

	d *door
}

func (c counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &statusWriter{ResponseWriter: w}
	defer func() {
		c.d.mu.Lock()
		defer c.d.mu.Unlock()
		c.d.asked = append(c.d.asked, r.Method+" "+http.StatusText(rec.status))
	}()
	c.Handler.ServeHTTP(rec, r)
}

// count returns how many answers there were of that kind, as "POST Not Found".
func (d *door) count(what string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.asked {
		if a == what {
			n++
		}
	}
	return n
}

type statusWriter struct {
	http.ResponseWriter

	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = 200
	}
	return w.ResponseWriter.Write(p)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type say struct {
	Text string `json:"text"`
}

func newTools() *mcp.Server {
	m := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	m.AddResource(&mcp.Resource{URI: "test://a", Name: "a"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "test://a", Text: "A"}}}, nil
	})
	mcp.AddTool(m, &mcp.Tool{Name: "echo", Description: "says what it hears"}, echo)
	mcp.AddTool(m, &mcp.Tool{Name: "look", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, echo)
	mcp.AddTool(m, &mcp.Tool{Name: "fail"}, func(context.Context, *mcp.CallToolRequest, say) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: "no"}}}, nil, nil
	})
	mcp.AddTool(m, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, in say) (*mcp.CallToolResult, any, error) {
		res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: in.Text, RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"type": "string"}}}})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Action}}}, nil, nil
	})
	mcp.AddTool(m, &mcp.Tool{Name: "slow"}, func(ctx context.Context, r *mcp.CallToolRequest, _ say) (*mcp.CallToolResult, any, error) {
		_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: "p", Message: "begun"})
		<-ctx.Done()
		return nil, nil, ctx.Err()
	})
	return m
}

func echo(_ context.Context, _ *mcp.CallToolRequest, in say) (*mcp.CallToolResult, any, error) {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
}

// call calls a tool and returns its text.
func call(tb testing.TB, cs *mcp.ClientSession, tool, text string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), testPatience)
	defer cancel()
	res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: say{text}})
	if err != nil {
		tb.Fatalf("%s: %v", tool, err)
	}
	return res.Content[0].(*mcp.TextContent).Text
}

// latest returns the server behind the door.
func (s *server) latest() *mcp.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made[len(s.made)-1]
}

func readAll(r *http.Request) string {
	data, _ := io.ReadAll(r.Body)
	return string(data)
}

func nopBody(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

// stream posts and hands on the lines of the answer as they come, until it ends or breaks.
func (s *site) stream(body, id string, line func(string), header ...string) {
	ctx, cancel := context.WithTimeout(s.tb.Context(), testPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", s.door.url(), strings.NewReader(body))
	if err != nil {
		s.tb.Error(err)
		return
	}
	if len(header) == 0 {
		header = post("Mcp-Session-Id", id)
	}
	for i, h := 0, header; i+1 < len(h); i += 2 {
		r.Header.Set(h[i], h[i+1])
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		s.tb.Error(err)
		return
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		line(sc.Text())
	}
}

// history returns all events in the journal.
func (s *site) history() (events []journal.Event) {
	s.tb.Helper()
	bounds, err := s.journal.Bounds(s.tb.Context())
	must(s.tb, err)
	opener := seal.NewBatchOpener(s.ring)
	must(s.tb, s.journal.Read(s.tb.Context(), 0, func(m journal.Message) error {
		b, err := opener.Open(m.Data)
		if err != nil {
			return err
		}
		events = append(events, b.Events...)
		if m.Seq >= bounds.Last {
			return journal.ErrStop
		}
		return nil
	}))
	return events
}
