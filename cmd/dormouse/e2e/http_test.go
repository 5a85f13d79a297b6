//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`
	toolsList  = `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`
)

// reply is an HTTP answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) String() string { return fmt.Sprintf("%d %.300q", r.status, r.body) }

// mcpHeaders are what every MCP client sends, with more of them or other values.
func mcpHeaders(more ...map[string]string) map[string]string {
	h := map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
	for _, m := range more {
		maps.Copy(h, m)
	}
	return h
}

func withSession(h map[string]string, id string) map[string]string {
	return mcpHeaders(h, map[string]string{"Mcp-Session-Id": id})
}

func post(t *testing.T, url string, headers map[string]string, body string) reply {
	t.Helper()
	return do(t, http.MethodPost, url, mcpHeaders(headers), strings.NewReader(body))
}

func do(t *testing.T, method, url string, headers map[string]string, body io.Reader) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header[http.CanonicalHeaderKey(k)] = []string{v}
	}
	resp, err := (&http.Client{Timeout: hung}).Do(req)
	if err != nil {
		return reply{body: err.Error()}
	}
	defer resp.Body.Close()
	return reply{status: resp.StatusCode, header: resp.Header, body: drain(resp.Body)}
}

// raw writes bytes to the gateway as they are and returns the first answer; status 0: it hung up.
func raw(t *testing.T, addr, request string) reply {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: hung}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hung))
	_, _ = io.WriteString(conn, request) // a server that refuses early may reset what follows
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return reply{body: err.Error()}
	}
	defer resp.Body.Close()
	return reply{status: resp.StatusCode, header: resp.Header, body: drain(resp.Body)}
}

// rawSession initializes a session without any SDK and returns its ID.
func rawSession(t *testing.T, url string, headers map[string]string) string {
	t.Helper()
	r := post(t, url, headers, initialize)
	id := r.header.Get("Mcp-Session-Id")
	if r.status != http.StatusOK || id == "" {
		t.Fatalf("initialize got %v", r)
	}
	if r := post(t, url, withSession(headers, id), `{"jsonrpc":"2.0","method":"notifications/initialized"}`); r.status != http.StatusAccepted {
		t.Fatalf("initialized got %v", r)
	}
	return id
}

// jsonLines reads one object a line.
func jsonLines(text string) (rows []map[string]any, err error) {
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var row map[string]any
		if err := dec.Decode(&row); err == io.EOF {
			return rows, nil
		} else if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
}
