package n8n

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine"
)

// ClientOptions configures a Client.
type ClientOptions struct {
	Policy           Policy        // which addresses may be dialed; 0 = Strict
	Timeout          time.Duration // of one request to n8n, its body included; 0 = 30 seconds
	MaxResponseBytes int64         // of one answer of n8n, unpacked; 0 = 8 MiB
	Resolver         *net.Resolver // nil = the system's
	TLS              *tls.Config   // nil = the system's roots
	UserAgent        string        // empty = "dormouse"
	Logger           zerolog.Logger
}

func (o ClientOptions) withDefaults() (ClientOptions, error) {
	if o.Policy == 0 {
		o.Policy = Strict
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.MaxResponseBytes == 0 {
		o.MaxResponseBytes = 8 << 20
	}
	if o.UserAgent == "" {
		o.UserAgent = "dormouse"
	}
	if o.Policy > Permissive || o.Timeout < 0 || o.MaxResponseBytes < 0 {
		return o, errors.New("n8n client: policy, timeout or response limit out of range")
	}
	return o, nil
}

// Client is what the servers of all tenants share: one pool of guarded connections and the tools'
// schemas. It holds nothing of any tenant. Safe for concurrent use.
type Client struct {
	o       ClientOptions
	http    *http.Client
	schemas *mcp.SchemaCache
	tools   toolTable
}

// NewClient returns a Client. It reaches no n8n yet. Proxies of the environment are not used: behind one,
// the address check would see the proxy's address alone.
func NewClient(o ClientOptions) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	dialer := o.Policy.Dialer()
	dialer.Timeout = min(o.Timeout, 10*time.Second)
	dialer.Resolver = o.Resolver
	return &Client{
		o: o,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:            dialer.DialContext,
				TLSClientConfig:        o.TLS,
				TLSHandshakeTimeout:    dialer.Timeout,
				ForceAttemptHTTP2:      true,
				MaxIdleConns:           256,
				MaxIdleConnsPerHost:    8,
				IdleConnTimeout:        90 * time.Second,
				MaxResponseHeaderBytes: 64 << 10,
			},
			// A redirect may lead anywhere, and the key would go along.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		schemas: mcp.NewSchemaCache(),
		tools:   newToolTable(),
	}, nil
}

// Policy returns the policy by which the client dials.
func (c *Client) Policy() Policy { return c.o.Policy }

// Close drops the idle connections. Requests under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// api is the REST API of one tenant's instance.
type api struct {
	client *Client
	base   string // canonical URL
	key    string
	limit  time.Duration // of a call
}

// newAPI returns nil without an error when the context is empty.
func (c *Client) newAPI(ic engine.InstanceContext) (*api, error) {
	if ic.N8nAPIURL == "" && ic.N8nAPIKey == "" {
		return nil, nil //nolint:nilnil // no context: the tools say so
	}
	if err := c.o.Policy.Validate(ic); err != nil {
		return nil, err
	}
	base, err := CanonicalURL(ic.N8nAPIURL)
	if err != nil {
		return nil, err
	}
	return &api{client: c, base: trimAPIPath(base), key: ic.N8nAPIKey, limit: c.limit(ic)}, nil
}

// limit is the client's own, or what an imported context has as n8nApiTimeout, in ms, if that is less.
func (c *Client) limit(ic engine.InstanceContext) time.Duration {
	if ms, ok := ic.Number("n8nApiTimeout"); ok && ms < float64(c.o.Timeout/time.Millisecond) {
		return max(time.Duration(ms*float64(time.Millisecond)), time.Millisecond)
	}
	return c.o.Timeout
}

// call is one request to the API.
type call struct {
	method string
	path   []string   // segments below the instance's URL, unescaped
	query  url.Values //
	body   any        // sent as JSON; nil: none
	public bool       // sent without the key
}

func (c *call) String() string { return c.method + " /" + joinPath(c.path) }

// do makes the call and decodes the answer into out. Its errors are for people and never hold the key.
func (a *api) do(ctx context.Context, c call, out any) error {
	if a == nil {
		return errNoCredentials
	}
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	start := time.Now()
	status, err := a.exchange(ctx, &c, out)
	a.client.o.Logger.Debug().Str("method", c.method).Int("status", status).Dur("took", time.Since(start)).
		Bool("ok", err == nil).Msg("n8n request")
	return explain(ctx, &c, err)
}

func (a *api) exchange(ctx context.Context, c *call, out any) (status int, err error) {
	req, err := a.request(ctx, c)
	if err != nil {
		return 0, err
	}
	resp, err := a.client.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // its bytes are read, or no longer wanted
	body, err := readLimited(resp.Body, a.client.o.MaxResponseBytes)
	if err != nil {
		return resp.StatusCode, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, newStatusError(resp, body, a.key)
	}
	return resp.StatusCode, decodeJSON(resp.Header, body, out)
}

func (a *api) request(ctx context.Context, c *call) (*http.Request, error) {
	target := a.base + "/" + joinPath(c.path)
	if len(c.query) > 0 {
		target += "?" + c.query.Encode()
	}
	var body io.Reader
	if c.body != nil {
		data, err := json.Marshal(c.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", a.client.o.UserAgent)
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.public {
		req.Header.Set("X-N8N-API-KEY", a.key)
	}
	return req, nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if int64(len(body)) > limit {
		return nil, &tooLargeError{limit: limit}
	}
	return body, nil
}

func decodeJSON(h http.Header, body []byte, out any) error {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &notJSONError{contentType: kind}
	}
	// "null" would decode into anything.
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) || json.Unmarshal(body, out) != nil {
		return &notJSONError{contentType: kind}
	}
	return nil
}
