package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// message is what is looked at of a JSON-RPC message; it travels as it came.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Progress json.RawMessage `json:"progressToken"` // of notifications/progress
		Request  json.RawMessage `json:"requestId"`     // of methodCancelled
		URI      string          `json:"uri"`
		Meta     struct {
			Progress json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	} `json:"-"`

	raw []byte
}

func (m *message) request() bool { return m.Method != "" && len(m.ID) > 0 }

func (m *message) response() bool { return m.Method == "" && len(m.ID) > 0 }

var errNotJSON = errors.New("not a JSON-RPC message")

// parse reads one message or a batch of them.
func parse(data []byte) ([]message, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '[' {
		m, err := parseOne(data)
		return []message{m}, err
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) == 0 {
		return nil, errNotJSON
	}
	msgs := make([]message, len(parts))
	for i, p := range parts {
		var err error
		if msgs[i], err = parseOne(p); err != nil {
			return nil, err
		}
	}
	return msgs, nil
}

func parseOne(data []byte) (message, error) {
	m := message{raw: data}
	if len(data) == 0 || data[0] != '{' || json.Unmarshal(data, &m) != nil || m.Method == "" && len(m.ID) == 0 {
		return m, errNotJSON
	}
	if bytes.Equal(m.ID, []byte("null")) {
		m.ID = nil
	}
	if m.Method != "" {
		// Parameters may be anything: what does not fit is not there.
		var p struct {
			Params json.RawMessage `json:"params"`
		}
		if json.Unmarshal(data, &p) == nil && len(p.Params) > 0 {
			_ = json.Unmarshal(p.Params, &m.Params)
		}
	}
	return m, nil
}

// line returns the message on one line.
func (m *message) line() []byte {
	if bytes.IndexByte(m.raw, '\n') < 0 {
		return append(bytes.Clone(m.raw), '\n')
	}
	var b bytes.Buffer
	if err := json.Compact(&b, m.raw); err != nil {
		return nil // it was parsed
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// key is an ID or token in a form in which equal ones are equal, however they were written.
func key(id json.RawMessage) string {
	if len(id) == 0 {
		return ""
	}
	var s string
	if id[0] == '"' && json.Unmarshal(id, &s) == nil {
		return `"` + s
	}
	if f, err := strconv.ParseFloat(string(id), 64); err == nil && f == float64(int64(f)) {
		return strconv.FormatInt(int64(f), 10)
	}
	return string(id)
}

// rpcError returns a JSON-RPC response with an error.
func rpcError(id json.RawMessage, code int, text string) []byte {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	var e struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	e.Version, e.ID, e.Error.Code, e.Error.Message = "2.0", id, code, text
	data, err := json.Marshal(e)
	if err != nil {
		return nil // the ID was parsed
	}
	return data
}

// carries reports whether the answer to a request may carry what belongs to no request: it takes its time, and its
// asker is the client itself, not the gateway on a wake.
func carries(method string) bool {
	switch method {
	case "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
		"tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return false
	}
	return true
}
