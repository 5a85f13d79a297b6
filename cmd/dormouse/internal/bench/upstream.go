package bench

import (
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// The tools of the benchmark's upstream: what they answer and how.
const (
	ToolSmall    = "small"     // about 100 bytes of JSON
	ToolLarge    = "large"     // about 50 KB of JSON
	ToolSmallSSE = "small-sse" // the same as one SSE event
	ToolLargeSSE = "large-sse"
)

// Upstream returns a lean MCP server with fixed answers: leaner than any real one, so that what stands in
// front of it shows. It does not check session IDs.
func Upstream() http.Handler {
	large := strings.Repeat("x", 50<<10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		var q struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params struct {
				Name string `json:"name"`
			} `json:"params"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		switch {
		case q.Method == "initialize":
			w.Header().Set("Mcp-Session-Id", uuid.NewString())
			answer(w, q.ID, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}`, false)
		case q.ID == nil:
			w.WriteHeader(http.StatusAccepted)
		default:
			text := "the answer is 42, as it was the last time and will be the next"
			if strings.HasPrefix(q.Params.Name, "large") {
				text = large
			}
			answer(w, q.ID, `{"content":[{"type":"text","text":"`+text+`"}]}`, strings.HasSuffix(q.Params.Name, "-sse"))
		}
	})
}

func answer(w http.ResponseWriter, id json.RawMessage, result string, sse bool) {
	body := `{"jsonrpc":"2.0","id":` + string(id) + `,"result":` + result + `}`
	if sse {
		w.Header().Set("Content-Type", "text/event-stream")
		body = "event: message\ndata: " + body + "\n\n"
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	_, _ = w.Write([]byte(body)) // the client counts what does not arrive
}

// Proxy returns the rival of the gateway: Go's own reverse proxy with as many idle connections as clients.
func Proxy(target *url.URL) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1024
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.URL.Path = target.Path },
		Transport:     transport,
		FlushInterval: -1,
	}
}
