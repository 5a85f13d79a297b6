//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestHostileInput sends what no honest client sends to a running gateway. Each gets the answer that the MCP
// or HTTP specification gives, nothing panics, and an honest session goes on beside it.
func TestHostileInput(t *testing.T) {
	g := startGateway(t)
	a, b := newTenant(t, "honest"), newTenant(t, "other")
	ts := startClients(t)
	honest := ts.connect("honest", g.url(), a.headers())
	id := rawSession(t, g.url(), a.headers())
	for _, c := range hostileRequests(g, a, b, id) {
		t.Run(c.name, func(t *testing.T) {
			got := c.send(t, g)
			if !slices.Contains(c.want, got.status) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got.status == http.StatusOK && !strings.Contains(got.body, `"error"`) {
				t.Errorf("it was let through: %v", got)
			}
			if strings.Contains(got.body, a.key) || got.header.Get("X-Injected") != "" {
				t.Errorf("the answer gives away what it must not: %v %v", got, got.header)
			}
			if !g.process.running() {
				t.Fatalf("the gateway ended: %s", tail(g.log, 4000))
			}
		})
	}
	honest.mustCall(callLimit, listWorkflows, nil, a.marker)
	if got := post(t, g.url(), withSession(a.headers(), id), toolsList); got.status != http.StatusOK {
		t.Errorf("the session that was attacked: %v", got)
	}
	g.checkLog()
}

// hostile is a request that must be refused.
type hostile struct {
	name    string
	want    []int // statuses that the specifications allow; 0: hung up. 200 only with a JSON-RPC error
	method  string
	path    string // empty = /mcp
	headers map[string]string
	body    string
	endless bool   // the body is followed by 256 MiB of the letter a
	bytes   string // if not empty, written as it is instead of all that
}

func (c hostile) send(t *testing.T, g *gateway) reply {
	t.Helper()
	if c.bytes != "" {
		return raw(t, g.listen, c.bytes)
	}
	body := io.Reader(strings.NewReader(c.body))
	if c.endless {
		body = io.MultiReader(body, io.LimitReader(letters{}, 256<<20))
	}
	url := g.url()
	if c.path != "" {
		url = "http://" + g.listen + c.path
	}
	return do(t, c.method, url, c.headers, body)
}

// letters is an endless stream of the letter a.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// Statuses that more than one kind of attack may get.
func badRequest() []int { return []int{http.StatusBadRequest} }
func notFound() []int   { return []int{http.StatusNotFound} }
func either() []int     { return []int{http.StatusBadRequest, http.StatusNotFound} }
func hungUp() []int     { return []int{http.StatusBadRequest, 0} }

func hostileRequests(g *gateway, a, b *tenant, id string) []hostile {
	return slices.Concat(hostileBodies(a, id), hostileInitializes(a), hostileSessions(a, b, id), hostileHeaders(a, id), hostileTenants(a), hostileBytes(g, a, id))
}

func hostileBodies(a *tenant, id string) (cases []hostile) {
	headers := withSession(a.headers(), id)
	for name, body := range map[string]string{
		"empty":              "",
		"no JSON":            "hello",
		"half an object":     `{"jsonrpc":"2.0","id":1,`,
		"two objects":        toolsList + toolsList,
		"null":               "null",
		"a number":           "1",
		"a string":           `"tools/list"`,
		"empty object":       "{}",
		"empty batch":        "[]",
		"batch of junk":      `[1,"x",null]`,
		"old JSON-RPC":       `{"id":1,"method":"tools/list"}`,
		"id is an object":    `{"jsonrpc":"2.0","id":{},"method":"tools/list"}`,
		"method is a number": `{"jsonrpc":"2.0","id":1,"method":7}`,
		"NUL bytes":          "\x00\x00\x00",
		"deep arrays":        strings.Repeat("[", 200_000),
		"deep params":        `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":` + strings.Repeat(`{"a":`, 100_000),
	} {
		cases = append(cases, hostile{name: "body: " + name, want: badRequest(), method: "POST", headers: headers, body: body})
	}
	return append(cases, hostile{
		name: "body: huge", want: []int{http.StatusRequestEntityTooLarge}, method: "POST", headers: headers,
		body: `{"jsonrpc":"2.0","id":1,"method":"`, endless: true,
	})
}

func hostileInitializes(a *tenant) (cases []hostile) {
	for name, body := range map[string]string{
		"no params":         `{"jsonrpc":"2.0","id":1,"method":"initialize"}`,
		"params are a list": `{"jsonrpc":"2.0","id":1,"method":"initialize","params":[]}`,
		"version a number":  `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}`,
		"in a batch":        "[" + initialize + "," + toolsList + "]",
		"a notification":    `{"jsonrpc":"2.0","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
	} {
		cases = append(cases, hostile{
			name: "initialize: " + name, want: []int{http.StatusBadRequest, http.StatusOK}, method: "POST",
			headers: mcpHeaders(a.headers()), body: body,
		})
	}
	return cases
}

func hostileSessions(a, b *tenant, id string) (cases []hostile) {
	add := func(name string, want []int, method string, h map[string]string) {
		c := hostile{name: "session: " + name + ", " + method, want: want, method: method, headers: mcpHeaders(h)}
		switch method {
		case http.MethodPost:
			c.body = toolsList
		case http.MethodGet:
			c.headers["Accept"] = "text/event-stream"
		}
		cases = append(cases, c)
	}
	for _, method := range []string{"POST", "GET", "DELETE"} {
		add("none", badRequest(), method, a.headers())
		add("unknown", notFound(), method, withSession(a.headers(), "9a4a2f5c-6a0e-4d43-a6cf-111111111111"))
		add("another tenant's", notFound(), method, withSession(b.headers(), id))
		add("no tenant", notFound(), method, withSession(nil, id))
		add("right URL and wrong key", notFound(), method, withSession(a.with("x-n8n-key", "wrong"), id))
		add("another instance", notFound(), method, withSession(a.with("x-instance-id", "elsewhere"), id))
		add("half a context", either(), method, withSession(a.without("x-n8n-key"), id))
	}
	for name, text := range map[string]string{
		"path": "../../etc/passwd", "10 kB": strings.Repeat("a", 10_000), "spaces": "a b c", "quotes": `"; drop table`,
		"UTF-8": "sitzung-\u00fc", "upper case": strings.ToUpper(id), "prefix": id[:8], "padded": id + "0", "list": id + "," + id,
	} {
		add("malformed, "+name, either(), http.MethodPost, withSession(a.headers(), text))
	}
	return cases
}

func hostileHeaders(a *tenant, id string) (cases []hostile) {
	add := func(name string, want []int, method, header, value string) {
		h := mcpHeaders(withSession(a.headers(), id), map[string]string{header: value})
		cases = append(cases, hostile{name: name, want: want, method: method, headers: h, body: toolsList})
	}
	wrongType := []int{http.StatusUnsupportedMediaType, http.StatusBadRequest}
	add("content type: text", wrongType, "POST", "Content-Type", "text/plain")
	add("content type: form", wrongType, "POST", "Content-Type", "application/x-www-form-urlencoded")
	add("content type: junk", wrongType, "POST", "Content-Type", ";;;")
	notAcceptable := []int{http.StatusNotAcceptable, http.StatusBadRequest}
	add("accept: HTML alone", notAcceptable, "POST", "Accept", "text/html")
	add("accept: a GET that wants JSON", notAcceptable, "GET", "Accept", "application/json")
	add("version: unknown", badRequest(), "POST", "Mcp-Protocol-Version", "1999-01-01")
	add("version: junk", badRequest(), "POST", "Mcp-Protocol-Version", "latest; drop")
	for _, method := range []string{"PUT", "PATCH", "TRACE", "HEAD"} {
		add("method: "+method, []int{http.StatusMethodNotAllowed}, method, "X-Nothing", "")
	}
	add("origin: a stranger's page", []int{http.StatusForbidden}, "POST", "Origin", "https://evil.example")
	add("origin: null", []int{http.StatusForbidden}, "POST", "Origin", "null")
	add("host: rebound DNS name", []int{http.StatusForbidden, http.StatusMisdirectedRequest, http.StatusBadRequest}, "POST", "Host", "evil.example")
	return append(cases, hostile{name: "path: elsewhere", want: notFound(), method: "GET", path: "/../../etc/passwd"})
}

func hostileTenants(a *tenant) (cases []hostile) {
	add := func(name string, h map[string]string) {
		cases = append(cases, hostile{
			name: "tenant: " + name, want: []int{http.StatusBadRequest, http.StatusForbidden}, method: "POST",
			headers: mcpHeaders(h), body: initialize,
		})
	}
	for name, url := range map[string]string{
		"metadata address": "http://169.254.169.254/latest", "file": "file:///etc/passwd", "user info": "http://user:pass@127.0.0.1/",
		"script": "javascript:alert(1)", "no host": "http://", "not a URL": "::::", "bad host": "http://a_b.local:5678",
	} {
		add("URL: "+name, a.with("x-n8n-url", url))
	}
	add("URL without key", a.without("x-n8n-key"))
	add("key without URL", a.without("x-n8n-url"))
	add("huge instance ID", a.with("x-instance-id", strings.Repeat("i", 10_000)))
	return cases
}

// hostileBytes are requests that no HTTP library would send.
func hostileBytes(g *gateway, a *tenant, id string) (cases []hostile) {
	head := "POST /mcp HTTP/1.1\r\nHost: " + g.listen + "\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
	body := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(initialize), initialize)
	own := "x-n8n-url: " + a.url + "\r\nx-n8n-key: " + a.key + "\r\nx-instance-id: " + a.id + "\r\n"
	list := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(toolsList), toolsList)
	elsewhere := []int{400, 403, 404, 405, 421}
	add := func(name string, want []int, request string) {
		cases = append(cases, hostile{name: "bytes: " + name, want: want, bytes: request})
	}
	add("lone CR in a value", hungUp(), head+"x-instance-id: a\rX-Injected: 1\r\n"+body)
	add("lone LF in a value", hungUp(), head+"x-n8n-key: a\nX-Injected: 1\r\n"+body)
	add("NUL in a value", hungUp(), head+"x-instance-id: a\x00b\r\n"+body)
	add("CR LF in a session ID", either(), head+own+"Mcp-Session-Id: a\r\nX-Injected: 1\r\n"+list)
	add("CRs in an instance ID", hungUp(), head+"x-n8n-url: http://127.0.0.1:1/%0d%0aX-Injected:1\r\nx-n8n-key: k%0d%0a\r\nx-instance-id: \r\r\r\n"+body)
	add("folded header", hungUp(), head+"x-n8n-key: a\r\n b\r\n"+body)
	add("space before the colon", hungUp(), head+"x-n8n-key : a\r\n"+body)
	add("two session IDs", either(), head+own+"Mcp-Session-Id: "+id+"\r\nMcp-Session-Id: other\r\n"+list)
	add("two tenant URLs", hungUp(), head+"x-n8n-url: http://127.0.0.1:1\r\nx-n8n-url: http://127.0.0.1:2\r\nx-n8n-key: k\r\n"+body)
	add("two transfer encodings", []int{400, 501, 0}, head+"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"+body)
	add("two lengths", hungUp(), head+"Content-Length: 3\r\n"+body)
	add("negative length", hungUp(), head+"Content-Length: -1\r\n\r\n")
	add("body of 99 GB announced", []int{http.StatusRequestEntityTooLarge}, head+"Content-Length: 99999999999\r\n\r\n{")
	add("broken chunk", hungUp(), head+"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n")
	add("headers of two megabytes", []int{http.StatusRequestHeaderFieldsTooLarge, 0}, head+"X-Long: "+strings.Repeat("x", 2<<20)+"\r\n"+body)
	add("no HTTP at all", hungUp(), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
	add("HTTP/1.1 without a host", hungUp(), "GET /mcp HTTP/1.1\r\n\r\n")
	add("absolute URI of elsewhere", elsewhere, "GET http://evil.example/mcp HTTP/1.1\r\nHost: evil.example\r\nAccept: text/event-stream\r\n\r\n")
	add("CONNECT", elsewhere, "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n")
	return cases
}
