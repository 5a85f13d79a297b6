package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
	"github.com/dormouse-mcp/dormouse/journal"
)

// callTimeout bounds one call, so that one that is never answered counts as failed instead of hanging.
const callTimeout = 15 * time.Second

// The tool that the clients call: it reaches n8n with the session's own credentials.
const tool = "n8n_list_workflows"

// client is a real MCP client: the official Go SDK's, as it comes. It calls one tool after the other and
// notes what became of each call.
type client struct {
	name    string
	tenant  n8ntest.Tenant
	session *mcp.ClientSession
	ref     journal.Ref

	mu    sync.Mutex
	calls []call
}

// call is what became of one.
type call struct {
	began, ended time.Time
	err          error
	foreign      bool // another tenant's answer: must never happen
}

// headers adds a tenant's headers to each request, as an n8n MCP client configuration does.
type headers struct {
	next http.RoundTripper
	set  http.Header
}

// RoundTrip implements http.RoundTripper.
func (h headers) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	maps.Copy(req.Header, h.set)
	return h.next.RoundTrip(req)
}

// connect starts the client's session. retries is how often in a row the client may find its event stream broken before
// it gives up; 0 leaves it at the SDK's five. Nothing in it retries on behalf of the demo: a call that the gateway does
// not answer fails in the client's hands.
func connect(ctx context.Context, name string, t n8ntest.Tenant, endpoint, n8nURL string, retries int) (*client, error) {
	h := headers{next: http.DefaultTransport.(*http.Transport).Clone(), set: http.Header{}}
	h.set.Set("X-N8n-Url", n8nURL)
	h.set.Set("X-N8n-Key", t.Key)
	h.set.Set("X-Instance-Id", t.Name)
	sdk := mcp.NewClient(&mcp.Implementation{Name: "dormouse-demo", Title: name, Version: "1"}, nil)
	session, err := sdk.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: endpoint, HTTPClient: &http.Client{Transport: h}, MaxRetries: retries,
	}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &client{name: name, tenant: t, session: session, ref: journal.SessionID(session.ID()).Ref()}, nil
}

// run calls until ctx ends, with a pause after each call.
func (c *client) run(ctx context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		began := time.Now()
		foreign, err := c.call(ctx)
		if ctx.Err() != nil {
			return // stopped in the middle of a call: no verdict
		}
		c.note(call{began: began, ended: time.Now(), err: err, foreign: foreign})
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

var errToolFailed = errors.New("the tool answered with an error")

func (c *client) call(ctx context.Context) (foreign bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := c.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: map[string]any{}})
	if err != nil {
		return false, err
	}
	text := textOf(res)
	if res.IsError {
		return false, fmt.Errorf("%w: %s", errToolFailed, text)
	}
	return !strings.Contains(text, n8ntest.MarkerTag(c.tenant.Name)), nil
}

func textOf(res *mcp.CallToolResult) string {
	var b strings.Builder
	for _, content := range res.Content {
		if t, ok := content.(*mcp.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	return b.String()
}

func (c *client) note(x call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, x)
}

// all returns the calls so far.
func (c *client) all() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]call(nil), c.calls...)
}

// answeredSince reports when the first call that began at or after t was answered.
func (c *client) answeredSince(t time.Time) (time.Time, bool) {
	for _, x := range c.all() {
		if !x.began.Before(t) && x.err == nil {
			return x.ended, true
		}
	}
	return time.Time{}, false
}
