package gateway_test

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

const ping = `{"jsonrpc":"2.0","id":7,"method":"ping"}`

// Every answer here is the one that the MCP specification gives, or JSON-RPC's where it gives none.
func TestHostileInput(t *testing.T) {
	srv := newServer(t, mcp.StreamableHTTPOptions{JSONResponse: true})
	s := newSite(t)
	s.boot(httpUpstream(t, srv.url()), setup{gateway: func(o *gateway.Options) { o.MaxBody = 64 << 10 }})
	id := s.session()
	with := func(more ...string) []string { return post(append(more, "Mcp-Session-Id", id)...) }
	unknown := "Mcp-Session-Id"
	for _, c := range []struct {
		name, method, body string
		header             []string
		status, code       int
	}{
		{"ping", "POST", ping, with(), 200, 0},
		{"notification", "POST", `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, with(), 202, 0},
		{"an answer to no question", "POST", `{"jsonrpc":"2.0","id":1,"result":{}}`, with(), 202, 0},
		{"an answer to a question of an old epoch", "POST", `{"jsonrpc":"2.0","id":"e9.1","result":{}}`, with(), 202, 0},
		{"an unknown method", "POST", `{"jsonrpc":"2.0","id":1,"method":"no/such"}`, with(), 400, 0},

		{"no accept", "POST", ping, []string{"Content-Type", "application/json", unknown, id}, 406, -32000},
		{"accept json alone", "POST", ping, []string{"Content-Type", "application/json", "Accept", "application/json", unknown, id}, 406, -32000},
		{"accept sse alone", "POST", ping, []string{"Content-Type", "application/json", "Accept", "text/event-stream", unknown, id}, 406, -32000},
		{"accept q=0", "POST", ping, []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream;q=0", unknown, id}, 406, -32000},
		{"accept anything", "POST", ping, []string{"Content-Type", "application/json", "Accept", "*/*", unknown, id}, 200, 0},
		{"accept families in two lines", "POST", ping, []string{"Content-Type", "application/json; charset=utf-8", "Accept", "Application/*;q=0.5", "Accept", "text/*", unknown, id}, 200, 0},
		{"no content type", "POST", ping, []string{"Accept", "*/*", unknown, id}, 415, -32000},
		{"text", "POST", ping, []string{"Content-Type", "text/plain", "Accept", "*/*", unknown, id}, 415, -32000},
		{"gzip", "POST", ping, with("Content-Encoding", "gzip"), 415, -32000},

		{"empty", "POST", ``, with(), 400, -32700},
		{"junk", "POST", `{"jsonrpc":"2.0",`, with(), 400, -32700},
		{"two values", "POST", ping + ping, with(), 400, -32700},
		{"no utf-8", "POST", "{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"ping\"}", with(), 400, -32700},
		{"deep", "POST", strings.Repeat("[", 60_000), with(), 400, -32700},
		{"deep and whole", "POST", strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000), with(), 400, -32700},
		{"null", "POST", `null`, with(), 400, -32600},
		{"a string", "POST", `"ping"`, with(), 400, -32600},
		{"no version", "POST", `{"id":1,"method":"ping"}`, with(), 400, -32600},
		{"version 1", "POST", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, with(), 400, -32600},
		{"id null", "POST", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, with(), 400, -32600},
		{"id object", "POST", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, with(), 400, -32600},
		{"method number", "POST", `{"jsonrpc":"2.0","id":1,"method":5}`, with(), 400, -32600},
		{"method empty", "POST", `{"jsonrpc":"2.0","id":1,"method":""}`, with(), 400, -32600},
		{"two methods", "POST", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, with(), 400, -32600},
		{"two methods, one disguised", "POST", `{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call"}`, with(), 400, -32600},
		{"a method for those who do not tell cases apart", "POST", `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, with(), 400, -32600},
		{"params in another case", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"PARAMS":{"name":"x"}}`, with(), 400, -32600},
		{"params with a long s", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"param\u017f":{"name":"x"}}`, with(), 400, -32600},
		{"two tools", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","name":"echo"}}`, with(), 400, -32600},
		{"two tools, one in another case", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","Name":"echo"}}`, with(), 400, -32600},
		{"a tool in another case", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"NAME":"echo"}}`, with(), 400, -32600},
		{"two resources", "POST", `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"test://a","\u0075ri":"test://b"}}`, with(), 400, -32600},
		{"a tool's own arguments may be anything", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x","Name":"y","name":"z"}}}`, with(), 200, 0},
		{"two ids", "POST", `{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}`, with(), 400, -32600},
		{"params string", "POST", `{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}`, with(), 400, -32600},
		{"request and response", "POST", `{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`, with(), 400, -32600},
		{"neither", "POST", `{"jsonrpc":"2.0","id":1}`, with(), 400, -32600},
		{"empty batch", "POST", `[]`, with(), 400, -32600},
		{"batch of junk", "POST", `[1]`, with(), 400, -32600},
		{"batch in 2025-06-18", "POST", `[` + ping + `]`, with(), 400, -32600},
		{"initialize in a batch", "POST", `[` + initialize + `]`, post(), 400, -32600},
		{"huge, declared", "POST", `"` + strings.Repeat("a", 65<<10) + `"`, with(), 413, -32000},

		{"no session", "POST", ping, post(), 400, -32000},
		{"empty session", "POST", ping, post(unknown, ""), 400, -32000},
		{"two sessions", "POST", ping, with(unknown, "x"), 400, -32000},
		{"unknown session", "POST", ping, post(unknown, "00000000-0000-4000-8000-000000000000"), 404, -32001},
		{"path for a session", "POST", ping, post(unknown, "../../etc/passwd"), 404, -32001},
		{"session with space", "POST", ping, post(unknown, "a b"), 404, -32001},
		{"session not ASCII", "POST", ping, post(unknown, "a\xfcb"), 404, -32001},
		{"long session", "POST", ping, post(unknown, strings.Repeat("a", 10<<10)), 404, -32001},
		{"GET unknown session", "GET", "", []string{"Accept", "text/event-stream", unknown, "x"}, 404, -32001},
		{"GET no session", "GET", "", []string{"Accept", "text/event-stream"}, 400, -32000},
		{"GET no accept", "GET", "", []string{unknown, id}, 406, -32000},
		{"DELETE no session", "DELETE", "", nil, 400, -32000},
		{"DELETE unknown session", "DELETE", "", []string{unknown, "x"}, 404, -32001},
		{"initialize again", "POST", initialize, with(), 400, -32600},
		{"initialize with a stale session", "POST", initialize, post(unknown, "stale"), 200, 0},

		{"version unknown", "POST", ping, with("Mcp-Protocol-Version", "2099-01-01"), 400, -32000},
		{"version junk", "POST", ping, with("Mcp-Protocol-Version", strings.Repeat("x", 5000)), 400, -32000},
		{"version of another day", "POST", ping, with("Mcp-Protocol-Version", "2025-11-25"), 200, 0},
		{"GET version unknown", "GET", "", []string{"Accept", "text/event-stream", unknown, id, "Mcp-Protocol-Version", "1"}, 400, -32000},
		{"initialize version unknown", "POST", initialize, post("Mcp-Protocol-Version", "1"), 400, -32000},

		{"PUT", "PUT", "", nil, 405, -32000},
		{"HEAD", "HEAD", "", nil, 405, 0},
		{"OPTIONS", "OPTIONS", "", nil, 405, -32000},
		{"TRACE", "TRACE", "", nil, 405, -32000},
		{"foreign page", "POST", ping, with("Origin", "https://evil.example"), 403, -32000},
		{"no page", "POST", ping, with("Origin", "null"), 403, -32000},
		{"two origins", "POST", ping, with("Origin", "http://localhost", "Origin", "http://localhost"), 403, -32000},
		{"origin with a lookalike", "POST", ping, with("Origin", "http://localhost.evil.example"), 403, -32000},
		{"local page", "POST", ping, with("Origin", "http://localhost:6274"), 200, 0},
		{"rebound name", "POST", ping, with("Host", "evil.example"), 403, -32000},
		{"IPv6 loopback", "POST", ping, with("Host", "[::1]:80"), 200, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rawTo(t, s.door.url(), c.method, c.body, c.header...)
			if r.status != c.status || c.code != 0 && rpcCode(t, r.body) != c.code {
				t.Errorf("%d %.300s, want %d %d", r.status, r.body, c.status, c.code)
			}
			if r.status == 405 && r.header.Get("Allow") != "GET, POST, DELETE" {
				t.Errorf("Allow: %q", r.header.Get("Allow"))
			}
		})
	}
}

func rpcCode(t *testing.T, body string) int {
	t.Helper()
	var m struct {
		Version string `json:"jsonrpc"`
		Error   struct {
			Code    int
			Message string
		}
		ID any
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Version != "2.0" || m.Error.Message == "" {
		t.Errorf("no JSON-RPC error: %s", body)
	}
	return m.Error.Code
}

// What net/http's client refuses to send.
func TestHostileBytes(t *testing.T) {
	srv := newServer(t, mcp.StreamableHTTPOptions{})
	s := newSite(t)
	s.boot(httpUpstream(t, srv.url()), setup{gateway: func(o *gateway.Options) { o.MaxBody = 64 << 10 }})
	id := s.session()
	head := "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: */*\r\n"
	for name, c := range map[string]struct{ request, want string }{
		"CR in a session ID": {head + "Mcp-Session-Id: a\rSet-Cookie: x\r\nContent-Length: 2\r\n\r\n{}", "400"},
		"NUL in a header":    {head + "Mcp-Session-Id: a\x00b\r\nContent-Length: 2\r\n\r\n{}", "400"},
		"huge, chunked":      {head + "Mcp-Session-Id: " + id + "\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("a", 0x1000)+"\r\n", 20) + "0\r\n\r\n", "413"},
		"body cut off":       {head + "Mcp-Session-Id: " + id + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", "400"},
		"ID with CR LF": {
			head + "Mcp-Session-Id: " + id + "\r\nContent-Length: 57\r\n\r\n" + `{"jsonrpc":"2.0","id":"a\r\nX: y","method":"ping"}       `, "200",
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.door.url(), "http://"))
			must(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, c.request)
			must(t, err)
			if name == "body cut off" {
				must(t, conn.(*net.TCPConn).CloseWrite())
			}
			got, _ := io.ReadAll(conn)
			if !strings.HasPrefix(string(got), "HTTP/1.1 "+c.want) {
				t.Errorf("%.200q, want %s", got, c.want)
			}
			if strings.Contains(string(got), "Set-Cookie") || strings.Contains(string(got), "\nX: y") {
				t.Errorf("injected: %q", got)
			}
		})
	}
}

// A body that does not come holds nothing for long.
func TestSlowBody(t *testing.T) {
	s := newSite(t)
	s.boot(httpUpstream(t, newServer(t, mcp.StreamableHTTPOptions{}).url()), setup{gateway: func(o *gateway.Options) { o.BodyTimeout = 50 * time.Millisecond }})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.door.url(), "http://"))
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(testPatience)))
	_, err = io.WriteString(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: 100\r\n\r\n{")
	must(t, err)
	if got, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 408") {
		t.Errorf("%.200q: %v", got, err)
	}
}

func TestPages(t *testing.T) {
	srv := newServer(t, mcp.StreamableHTTPOptions{JSONResponse: true})
	s := newSite(t)
	s.boot(httpUpstream(t, srv.url()), setup{gateway: func(o *gateway.Options) {
		o.AllowedOrigins, o.AllowedHosts = []string{"https://App.example/"}, []string{"mcp.example"}
	}})
	pre := s.raw("OPTIONS", "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "mcp-session-id", "Host", "mcp.example:8808")
	if pre.status != 204 || pre.header.Get("Access-Control-Allow-Origin") != "https://app.example" ||
		pre.header.Get("Access-Control-Allow-Headers") != "mcp-session-id" {
		t.Errorf("%+v", pre)
	}
	r := s.raw("POST", initialize, post("Origin", "https://app.example")...)
	if r.status != 200 || !strings.Contains(r.header.Get("Access-Control-Expose-Headers"), "Mcp-Session-Id") {
		t.Errorf("%+v", r)
	}
}

func TestDelete(t *testing.T) {
	srv := newServer(t, mcp.StreamableHTTPOptions{})
	s := newSite(t)
	r := s.boot(httpUpstream(t, srv.url()))
	id := s.session()
	for i, want := range []int{204, 404, 404} {
		if got := s.raw("DELETE", "", "Mcp-Session-Id", id); got.status != want {
			t.Errorf("DELETE %d: %d", i, got.status)
		}
	}
	if got := s.raw("POST", ping, post("Mcp-Session-Id", id)...); got.status != 404 || !strings.Contains(got.body, `"id":null`) {
		t.Errorf("%+v", got)
	}
	must(t, r.Shutdown(t.Context()))
	if n := srv.door.count("DELETE No Content"); n != 1 {
		t.Errorf("the upstream was told %d times", n)
	}
	if got := s.raw("POST", ping, post("Mcp-Session-Id", id)...); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("%+v", got)
	}
}
