package gateway

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
)

// JSON-RPC error codes that the gateway answers with. The first four are JSON-RPC's own; -32000 and
// -32001 are what other MCP servers use for the same; the rest lie in the range left to servers.
const (
	codeParse              = -32700
	codeInvalidRequest     = -32600
	codeInvalidParams      = -32602
	codeInternal           = -32603
	codeTransport          = -32000 // the HTTP request is not what MCP's transport asks for
	codeSessionNotFound    = -32001
	codeHeaderMismatch     = -32020 // this and the next two are of the 2026-07-28 protocol
	codeMissingCapability  = -32021
	codeUnsupportedVersion = -32022
	codeUnavailable        = -32050 // nothing was executed; try again later
	codeOutcomeUnknown     = -32051 // the request may have been executed
	codeSessionLimit       = -32052
	codeRateLimit          = -32053
	codeSubscriptionLimit  = -32054
)

// rpcError is a JSON-RPC error object.
type rpcError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// response returns the JSON-RPC response that carries e; a nil id gives null.
func (e *rpcError) response(id []byte) []byte {
	if id == nil {
		id = []byte("null")
	}
	body, err := json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   *rpcError       `json:"error"`
	}{"2.0", id, e})
	if err != nil {
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"Internal error"}}`)
	}
	return body
}

// problem is an HTTP answer that holds a JSON-RPC error.
type problem struct {
	status     int
	retryAfter int    // seconds; zero = not said
	challenge  string // of WWW-Authenticate; empty = none
	header     http.Header
	why        Denial // empty: nothing to count
	rpcError
}

func (p *problem) Error() string { return p.Message }

func refuse(status, code int, text string) *problem {
	return &problem{status: status, rpcError: rpcError{Code: code, Message: text}}
}

// because says why, for the observer.
func (p *problem) because(why Denial) *problem {
	p.why = why
	return p
}

// write answers with p; id is the raw ID of the request that it concerns, nil when it concerns the transport.
func (p *problem) write(w http.ResponseWriter, id []byte) {
	body := p.response(id)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	maps.Copy(h, p.header)
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(body) //nolint:gosec // JSON, no page; the client may be gone: nobody to tell
}
