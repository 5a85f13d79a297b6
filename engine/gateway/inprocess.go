package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
)

// ServerFactory makes the MCP server of one session from its instance context, which is the zero value
// where the session has none. An error that wraps ErrBadContext is the client's fault.
type ServerFactory func(engine.InstanceContext) (*mcp.Server, error)

// InProcess is an upstream of servers of the official Go SDK in this process, one for each session. What such
// a server holds in memory is gone when its session hibernates or the process ends.
type InProcess struct{ make ServerFactory }

// NewInProcess returns the upstream of the factory's servers.
func NewInProcess(factory ServerFactory) *InProcess { return &InProcess{make: factory} }

// Shared is false: a server ends with its process.
func (p *InProcess) Shared() bool { return false }

// Connect makes a server.
func (p *InProcess) Connect(ctx context.Context, t Tenant) (Conn, error) {
	ic, err := t.Context(ctx)
	if err != nil {
		return nil, err
	}
	server, err := p.make(ic)
	if err != nil {
		return nil, err
	}
	return &serverConn{server: server, handler: mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{
			DisableLocalhostProtection: true, // the gateway has looked at Host and Origin
			MaxRequestBodyBytes:        -1,   // and at the size
		},
	)}, nil
}

// serverConn carries requests to an http.Handler in this process.
type serverConn struct {
	server  *mcp.Server
	handler http.Handler
}

// RoundTrip serves r in a goroutine of its own, which ends with the request's context or its body.
func (c *serverConn) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	p := newPipe(r.Context(), cancel)
	go func() {
		defer p.finish()
		c.handler.ServeHTTP(p, r.WithContext(ctx))
	}()
	return p.response(r)
}

// Close ends the server's sessions, which ends the requests under way.
func (c *serverConn) Close() error {
	var errs []error
	for s := range c.server.Sessions() {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
