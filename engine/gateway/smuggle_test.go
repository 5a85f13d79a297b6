package gateway_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// tape is a front of an upstream that keeps what came through.
type tape struct {
	next http.Handler

	mu   sync.Mutex
	seen []string // method, path, headers and body
}

func (p *tape) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := readAll(r)
	r.Body = nopBody(body)
	var text bytes.Buffer
	_ = r.Header.Write(&text)
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.URL.Path+"\n"+text.String()+"\n"+body)
	p.mu.Unlock()
	p.next.ServeHTTP(w, r)
}

func (p *tape) rewind() (seen []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen, p.seen = p.seen, nil
	return seen
}

// Requests whose end two servers see at different places: the upstream gets one request for each that was checked here, with a
// length of the gateway's own.
func TestSmuggling(t *testing.T) {
	up := newStubborn(t)
	p := &tape{next: up}
	up.door.open(p)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()+"/mcp"))
	id := s.session()
	p.rewind()
	const hidden = "POST /smuggled HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: 1\r\nContent-Length: 0\r\n\r\n"
	head := "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nMcp-Session-Id: " + id + "\r\n"
	for name, request := range map[string]string{
		"length and chunks":        head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"chunks and length":        head + "Transfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n26\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}\r\n0\r\n\r\n" + hidden,
		"two lengths":              head + "Content-Length: 0\r\nContent-Length: 90\r\n\r\n" + hidden,
		"a length with a sign":     head + "Content-Length: +0\r\n\r\n" + hidden,
		"chunks, disguised":        head + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + hidden,
		"chunks, twice":            head + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + hidden,
		"a space before the colon": head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
		"a folded header":          head + "X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + hidden,
		"LF alone":                 head + "X-A: b\nX-Smuggled: 1\r\nContent-Length: 2\r\n\r\n{}",
		"a chunk's extension":      head + "Transfer-Encoding: chunked\r\n\r\n2;a=\"\r\n\"\r\n{}\r\n0\r\n\r\n" + hidden,
		"trailers":                 head + "Trailer: X-Smuggled\r\nTransfer-Encoding: chunked\r\n\r\n26\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}\r\n0\r\nX-Smuggled: 1\r\n\r\n",
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.door.url(), "http://"))
		must(t, err)
		_, err = io.WriteString(conn, request)
		must(t, err)
		must(t, conn.(*net.TCPConn).CloseWrite())
		_, _ = io.ReadAll(conn) // until everything has been answered, or the connection is cut
		must(t, conn.Close())
		for _, seen := range p.rewind() {
			_, body, _ := strings.Cut(seen, "\r\n\n")
			if strings.Contains(strings.ToLower(seen), "smuggled") || !strings.HasPrefix(seen, "POST /mcp\n") || body != "" && !json.Valid([]byte(body)) {
				t.Errorf("%s: the upstream got:\n%s", name, seen)
			}
		}
	}
}

// What a client declares to be of its connection alone is not passed on, and so the gateway does not go by it either: the
// upstream would act for somebody else than was checked here.
func TestHeadersOfTheConnection(t *testing.T) {
	up := newStubborn(t)
	p := &tape{next: up}
	up.door.open(p)
	s := newSite(t)
	id := gateway.Identifier{Name: s.ring.Name, Context: readContext}
	s.boot(httpUpstream(t, up.door.url()), setup{gateway: func(o *gateway.Options) { o.Identify = id.Identify }})
	tenant := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	session := s.session(tenant...)
	p.rewind()
	for named, want := range map[string]int{
		"X-N8n-Key": 400, "X-N8n-Url, X-N8n-Key, X-Instance-Id": 404, "keep-alive, x-n8n-key": 400, "Mcp-Session-Id": 400, "keep-alive": 200,
	} {
		r := s.raw("POST", callTool, post(append(tenant, "Mcp-Session-Id", session, "Connection", named)...)...)
		if r.status != want {
			t.Errorf("Connection: %s: %d %s", named, r.status, r.body)
		}
		if seen := p.rewind(); (len(seen) > 0) != (want == 200) {
			t.Errorf("Connection: %s: the upstream got %q", named, seen)
		}
	}
}

// Nobody chooses the ID of a session, so that nobody knows the ID of a session that somebody else will use.
func TestSessionFixation(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	s.boot(httpUpstream(t, up.door.url()))
	const chosen = "11111111-1111-4111-8111-111111111111"
	r := s.raw("POST", initialize, post("Mcp-Session-Id", chosen)...)
	if id := r.header.Get("Mcp-Session-Id"); r.status != 200 || len(id) < 32 || id == chosen || strings.HasPrefix(id, "upstream-") {
		t.Errorf("%d, session %q", r.status, id)
	}
	for _, id := range []string{chosen, "upstream-1"} {
		if r := s.raw("POST", callTool, post("Mcp-Session-Id", id)...); r.status != 404 {
			t.Errorf("%s: %d %s", id, r.status, r.body)
		}
	}
}

// What clients and upstreams send makes no lines of its own in the log, and is no command to a terminal on which it is read.
func TestLogInjection(t *testing.T) {
	const evil = "x\n{\"level\":\"info\",\"message\":\"forged\"}\r\n\x1b[2J\x1b]0;owned\x07"
	text, err := json.Marshal(evil)
	must(t, err)
	up := newStubborn(t)
	s := newSite(t)
	var log lines
	var screen lines
	logger := zerolog.New(zerolog.MultiLevelWriter(&log, zerolog.ConsoleWriter{Out: &screen, NoColor: true}))
	s.log = logger
	r := s.boot(httpUpstream(t, up.door.url()), setup{gateway: func(o *gateway.Options) {
		o.Identify = (&gateway.Identifier{Name: s.ring.Name, Context: readContext}).Identify
	}})
	tenant := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	id := s.session(tenant...)
	up.forget() // so that something is logged
	call := `{"jsonrpc":"2.0","id":` + string(text) + `,"method":"tools/call","params":{"name":` + string(text) + `}}`
	if got := s.raw("POST", call, post(append(tenant, "Mcp-Session-Id", id)...)...); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	_ = s.raw("POST", strings.Replace(call, "tools/call", strings.Trim(string(text), `"`), 1), post("Mcp-Session-Id", id)...)
	up.mu.Lock()
	up.dialect = func(w http.ResponseWriter, _ *http.Request, _ msg) { rpcFault(w, 500, -32000, evil) }
	up.mu.Unlock()
	up.forget()
	_ = s.raw("POST", call, post(append(tenant, "Mcp-Session-Id", id)...)...)
	r.kill()
	for sc := bufio.NewScanner(strings.NewReader(log.String())); sc.Scan(); {
		var line struct{ Message string }
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil || line.Message == "forged" {
			t.Errorf("%v: %s", err, sc.Text())
		}
	}
	if log.String() == "" || strings.ContainsAny(log.String()+screen.String(), "\x1b\x07\r") || strings.Contains(screen.String(), "\n{") {
		t.Errorf("log: %q\nscreen: %q", log.String(), screen.String())
	}
}
