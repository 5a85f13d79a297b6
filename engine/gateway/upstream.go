package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Upstream is where MCP requests are answered. Safe for concurrent use.
type Upstream interface {
	// Connect returns what answers the requests of one session from now on, the first of which is initialize.
	// The gateway closes what it got. t is nil for requests that belong to no session, which only a shared
	// upstream is asked for.
	Connect(ctx context.Context, t Tenant) (Conn, error)

	// Shared reports whether the upstream's sessions outlive this process and are reached from every
	// replica. One that is not shared is connected anew, and initialized again, at every wake.
	Shared() bool
}

// Tenant is the session for which an upstream is connected. *engine.Session is one.
type Tenant interface {
	// Ref names the session in logs.
	Ref() journal.Ref

	// Context opens the session's instance context, which holds credentials; the zero one if it has none. An
	// upstream that needs none must not ask for it.
	Context(ctx context.Context) (engine.InstanceContext, error)
}

// Conn carries one session's HTTP requests to its upstream. RoundTrip is http.RoundTripper's, with a body
// that streams. An error that wraps ErrNotSent says that the upstream has not seen the request.
type Conn interface {
	http.RoundTripper

	// Close lets go of what the connection holds. Requests under way may break.
	Close() error
}

// ErrNotSent says that a request did not reach the upstream, so that repeating it is safe.
var ErrNotSent = errors.New("not sent")

// HTTPUpstreamOptions configures NewHTTPUpstream.
type HTTPUpstreamOptions struct {
	// Token is sent as "Authorization: Bearer TOKEN" in place of what the client sent; empty = not.
	Token string

	// StripAuthorization keeps the client's Authorization header from the upstream. Set it where the gateway
	// checks tokens itself.
	StripAuthorization bool

	// ForwardedFor says what the server learns of the clients' addresses; zero = nothing.
	ForwardedFor ForwardedFor

	// DialTimeout bounds one attempt to connect; 0 = 5 s.
	DialTimeout time.Duration

	// MaxIdlePerHost is how many idle connections are kept; 0 = 512.
	MaxIdlePerHost int

	// IdleTimeout is how long; 0 = 4 s, which is below the 5 s after which a Node server hangs up: a request
	// sent at that very moment would be lost.
	IdleTimeout time.Duration
}

// HTTPUpstream is a streamable-HTTP MCP server behind a URL.
type HTTPUpstream struct {
	url       *url.URL
	options   HTTPUpstreamOptions
	transport *http.Transport
}

// NewHTTPUpstream returns the upstream at an http or https URL. Nothing is dialed yet. Proxy settings of
// the environment are not used.
func NewHTTPUpstream(rawURL string, o HTTPUpstreamOptions) (*HTTPUpstream, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("upstream URL: %w", WithoutURL(err))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("upstream URL %q: want http://HOST/PATH or https://HOST/PATH without credentials", shown(u))
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 5 * time.Second
	}
	if o.MaxIdlePerHost == 0 {
		o.MaxIdlePerHost = 512
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 4 * time.Second
	}
	dialer := &net.Dialer{Timeout: o.DialTimeout, KeepAlive: 15 * time.Second}
	return &HTTPUpstream{url: u, options: o, transport: &http.Transport{
		DialContext:         dialWarily(dialer),
		DisableCompression:  true,
		MaxIdleConns:        0,
		MaxIdleConnsPerHost: o.MaxIdlePerHost,
		IdleConnTimeout:     o.IdleTimeout,
		TLSHandshakeTimeout: o.DialTimeout,
		ForceAttemptHTTP2:   true,
	}}, nil
}

// ReadToken reads an upstream token from a file: its first line, trimmed.
func ReadToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("upstream token: %w", err)
	}
	token, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	if token = strings.TrimSpace(token); !visible(token, 8<<10) {
		return "", fmt.Errorf("upstream token %s: want one line of visible ASCII", path)
	}
	return token, nil
}

// String returns the URL as it may be logged.
func (u *HTTPUpstream) String() string { return shown(u.url) }

// Shared is true: the server holds its sessions itself.
func (u *HTTPUpstream) Shared() bool { return true }

// Connect returns a view of the pool that all sessions share.
func (u *HTTPUpstream) Connect(context.Context, Tenant) (Conn, error) {
	return httpConn{u}, nil
}

// Close drops idle connections.
func (u *HTTPUpstream) Close() error {
	u.transport.CloseIdleConnections()
	return nil
}

type httpConn struct{ u *HTTPUpstream }

// RoundTrip sends r to the upstream's URL. It owns r and its header.
func (c httpConn) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL, r.Host = c.u.url, ""
	if c.u.options.StripAuthorization {
		delete(r.Header, "Authorization")
	}
	if c.u.options.Token != "" {
		r.Header["Authorization"] = []string{"Bearer " + c.u.options.Token}
	}
	c.u.options.ForwardedFor.apply(r)
	resp, err := c.u.transport.RoundTrip(r)
	if err != nil && unsent(err) {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return resp, err
}

func (c httpConn) Close() error { return nil }

// unsent reports whether err arose before a connection stood.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == opDial
}

const opDial = "dial" // as package net has it
