package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Methods that mean something to the gateway itself.
const (
	methodInitialize  = "initialize"
	methodInitialized = "notifications/initialized"
	methodCancelled   = "notifications/cancelled" //nolint:misspell // the protocol's spelling
	methodProgress    = "notifications/progress"
	methodPing        = "ping"
	methodToolsCall   = "tools/call"
	methodToolsList   = "tools/list"
	methodSetLevel    = "logging/setLevel"
	methodSubscribe   = "resources/subscribe"
	methodUnsubscribe = "resources/unsubscribe"
	methodDiscover    = "server/discover"
)

const (
	maxBatch = 100 // members of a JSON-RPC batch
	maxName  = 256 // bytes of a method's or tool's name that are journaled
)

// kind is what a JSON-RPC message is.
type kind uint8

const (
	kindRequest kind = iota + 1
	kindNotification
	kindResponse
)

// message is one JSON-RPC message of a request body; its byte slices point into the body.
type message struct {
	raw    []byte
	kind   kind
	method string // empty in responses
	tool   string // params.name of tools/call
	id     []byte // as it stands: a JSON string or number; nil in notifications
	params []byte // as it stands; nil when absent
}

// payload is a request body: one message, or a batch of them.
type payload struct {
	body  []byte
	batch bool
	msgs  []message
	one   [1]message // backs msgs unless it is a batch
}

// parse reads a body. It is strict where a message could be taken for another one by somebody who
// reads it differently: invalid UTF-8 and members that appear twice are refused.
func (p *payload) parse(body []byte) *rpcError {
	p.body = body
	if !utf8.Valid(body) || !json.Valid(body) {
		return &rpcError{Code: codeParse, Message: "Parse error: the body is not valid JSON"}
	}
	if at := skipSpace(body, 0); body[at] != '[' {
		p.msgs = p.one[:]
		return p.msgs[0].parse(bytes.TrimSpace(body))
	}
	p.batch = true
	w := walk(body, '[')
	for {
		raw, ok := w.element()
		if !ok {
			break
		}
		if len(p.msgs) == maxBatch {
			return invalidRequest("Invalid Request: too many messages in one batch")
		}
		var m message
		if err := m.parse(raw); err != nil {
			return err
		}
		p.msgs = append(p.msgs, m)
	}
	if len(p.msgs) == 0 {
		return invalidRequest("Invalid Request: an empty batch")
	}
	return nil
}

func (m *message) parse(raw []byte) *rpcError {
	m.raw = raw
	var version, method, answer []byte
	w := walk(raw, '{')
	for {
		key, val, ok := w.member()
		if !ok {
			break
		}
		var seen *[]byte
		switch string(key) {
		case "jsonrpc":
			seen = &version
		case "id":
			seen = &m.id
		case "method":
			seen = &method
		case "params":
			seen = &m.params
		case "result", "error":
			seen = &answer
		default:
			if alike(key, "jsonrpc", "id", "method", "params", "result", "error") {
				return invalidRequest("Invalid Request: a member's name is spelled in another case")
			}
			continue
		}
		if *seen != nil {
			return invalidRequest("Invalid Request: a member appears twice")
		}
		*seen = val
	}
	if w.bad || string(version) != `"2.0"` {
		return invalidRequest("Invalid Request: not a JSON-RPC 2.0 message")
	}
	return m.classify(method, answer)
}

func (m *message) classify(method, answer []byte) *rpcError {
	if m.id != nil && m.id[0] != '"' && m.id[0] != '-' && (m.id[0] < '0' || m.id[0] > '9') {
		m.id = nil
		return invalidRequest("Invalid Request: id must be a string or a number")
	}
	if method == nil {
		if answer == nil || m.id == nil {
			return invalidRequest("Invalid Request: neither a request nor a notification nor a response")
		}
		m.kind = kindResponse
		return nil
	}
	name, ok := unquote(method)
	if !ok || name == "" || answer != nil {
		return invalidRequest("Invalid Request: method must be a string, and a request has no result")
	}
	if m.params != nil && m.params[0] != '{' && m.params[0] != '[' {
		return invalidRequest("Invalid Request: params must be an object or an array")
	}
	m.method = name
	if m.ambiguous() {
		return invalidRequest("Invalid Request: a member of params appears twice, or its name is spelled in another case")
	}
	m.kind = kindRequest
	if m.id == nil {
		m.kind = kindNotification
	}
	if name == methodToolsCall {
		m.tool = text(m.params, "name")
	}
	return nil
}

// alike reports whether some parsers, which do not tell cases apart, take key for one of names, which it is not.
func alike(key []byte, names ...string) bool {
	for _, name := range names {
		if string(key) != name && strings.EqualFold(string(key), name) {
			return true
		}
	}
	return false
}

// ambiguous reports whether somebody who reads params differently could take another value than the gateway does for what
// it goes by, and journals.
func (m *message) ambiguous() bool {
	var name string
	switch m.method {
	case methodToolsCall:
		name = "name"
	case methodSetLevel:
		name = "level"
	case methodSubscribe, methodUnsubscribe:
		name = "uri"
	default:
		return false
	}
	w, seen := walk(m.params, '{'), false
	for {
		key, _, ok := w.member()
		switch {
		case !ok:
			return false
		case string(key) == name && seen, alike(key, name):
			return true
		}
		seen = seen || string(key) == name
	}
}

// only returns the message of a body that is no batch and holds a request of that method, or nil.
func (p *payload) only(method string) *message {
	if p.batch || p.msgs[0].method != method || p.msgs[0].kind != kindRequest {
		return nil
	}
	return &p.msgs[0]
}

// has reports whether there is a message of that kind.
func (p *payload) has(k kind) bool {
	for i := range p.msgs {
		if p.msgs[i].kind == k {
			return true
		}
	}
	return false
}

// id returns the ID of the only request in the body, or nil: the id of an error that concerns all of it.
func (p *payload) id() []byte {
	if p == nil || p.batch || len(p.msgs) == 0 || p.msgs[0].kind != kindRequest {
		return nil
	}
	return p.msgs[0].id
}

// repeatable reports whether the whole body may be executed twice without harm.
func (p *payload) repeatable(tool func(name string) bool) bool {
	for i := range p.msgs {
		if m := &p.msgs[i]; m.kind == kindRequest && !m.repeatable(tool) {
			return false
		}
	}
	return true
}

func (m *message) repeatable(tool func(name string) bool) bool {
	switch m.method {
	case methodInitialize, methodPing, "tools/list", "prompts/list", "resources/list", "resources/templates/list",
		"roots/list", "tasks/list", "tasks/get", "resources/read", "prompts/get", "completion/complete",
		methodSetLevel, methodSubscribe, methodUnsubscribe, methodDiscover:
		return true
	case methodToolsCall:
		return tool(m.tool)
	}
	return false
}

func clip(s string) string {
	if len(s) <= maxName {
		return s
	}
	return s[:maxName]
}

func invalidRequest(text string) *rpcError { return &rpcError{Code: codeInvalidRequest, Message: text} }

// salvage returns the ID of a single request that is not valid otherwise, if it could be read.
func (p *payload) salvage() []byte {
	if p.batch || len(p.msgs) == 0 {
		return nil
	}
	return p.msgs[0].id
}
