package n8n_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

// Every tool, with arguments that pass its schema.
var everyTool = map[string]obj{
	"n8n_health_check":        {},
	"n8n_list_workflows":      {},
	"n8n_get_workflow":        {"id": "a"},
	"n8n_create_workflow":     {"name": "n", "nodes": []obj{}, "connections": obj{}},
	"n8n_update_workflow":     {"id": "a", "name": "n"},
	"n8n_activate_workflow":   {"id": "a"},
	"n8n_deactivate_workflow": {"id": "a"},
	"n8n_list_executions":     {},
	"n8n_get_execution":       {"id": "1"},
}

// What the operator has in the environment, under the names that n8n-mcp reads, is no tenant's credential.
func TestWithoutContextToolsSayWhichHeadersToSend(t *testing.T) {
	s := startN8n(t)
	for name, value := range map[string]string{
		"N8N_API_URL": s.URL(), "N8N_API_KEY": acmeKey, "X_N8N_URL": s.URL(), "X_N8N_KEY": acmeKey,
		"DORMOUSE_N8N_URL": s.URL(), "DORMOUSE_N8N_KEY": acmeKey,
	} {
		t.Setenv(name, value)
	}
	cs := connect(t, moderate(t), engine.InstanceContext{InstanceID: "acme", SessionID: "s"})
	for tool, args := range everyTool {
		if msg := toolError(t, cs, tool, args); !strings.Contains(msg, "x-n8n-url") || !strings.Contains(msg, "x-n8n-key") {
			t.Errorf("%s: %s", tool, msg)
		}
	}
}

func TestStatusesAreExplained(t *testing.T) {
	s := startN8n(t)
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	echo := fmt.Sprintf(`{"message":"key \"%s\" here"}`, acmeKey)
	for _, tt := range []struct {
		status int
		body   string
		header []string
		want   string
	}{
		{400, `{"message":"request/body/nodes must be array"}`, nil, "request/body/nodes must be array"},
		{400, `{"message":"a\r\nb\u0000c"}`, nil, `"a  b c"`},
		{401, `{"message":"unauthorized"}`, nil, "the n8n key was refused"},
		{401, echo, nil, "[redacted]"},
		{401, `{"message":"` + strings.Repeat("x", 495) + acmeKey + `"}`, nil, "x[red"},
		{403, `{"message":"Forbidden"}`, nil, "permission"},
		{404, `{"message":"Not Found"}`, nil, "no such thing"},
		{404, `<html>`, nil, "404"},
		{429, `{}`, []string{"Retry-After", "17"}, "after 17"},
		{429, `{}`, nil, "try again later"},
		{500, `{"message":"boom"}`, nil, "boom"},
		{502, `Bad gateway`, nil, "502"},
		{503, ``, nil, "a proxy before it"},
		{301, ``, []string{"Location", "https://other.example/api/v1/workflows?x=" + acmeKey}, "https://other.example,"},
		{307, ``, []string{"Location", "http://169.254.169.254/latest"}, "redirects are not followed"},
		{304, ``, nil, "redirects are not followed"},
		{418, `{"message":5}`, nil, "418"},
	} {
		s.Intercept(fault(tt.status, tt.body, tt.header...))
		for tool, args := range everyTool {
			if msg := toolError(t, cs, tool, args); !strings.Contains(msg, tt.want) || len(msg) > 1000 {
				t.Errorf("%d, %s: %s; want %q", tt.status, tool, msg, tt.want)
			}
		}
	}
}

func TestAnswersThatAreNotN8n(t *testing.T) {
	s := startN8n(t)
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	for _, tt := range []struct{ body, contentType, want string }{
		{"<html>please log in</html>", "text/html", "text/html"},
		{"{}", "", "is x-n8n-url the URL"},
		{`{"data":`, "application/json", "not what n8n's API gives"},
		{``, "application/json", "not what n8n's API gives"},
		{`null`, "application/json", "not what n8n's API gives"},
		{` null`, "application/json", "not what n8n's API gives"},
		{`{"id":1}{`, "application/json", "not what n8n's API gives"},
		{`[1]`, "application/json", "not what n8n's API gives"},
		{`"x"`, "application/json; charset=utf-8", "not what n8n's API gives"},
	} {
		s.Intercept(fault(http.StatusOK, tt.body, "Content-Type", tt.contentType))
		for tool, args := range everyTool {
			if msg := toolError(t, cs, tool, args); !strings.Contains(msg, tt.want) {
				t.Errorf("%q, %s: %s; want %q", tt.body, tool, msg, tt.want)
			}
		}
	}
}

func TestHugeAnswers(t *testing.T) {
	s := startN8n(t)
	c := newClient(t, n8n.ClientOptions{Policy: n8n.Moderate, MaxResponseBytes: 1 << 10})
	cs := connect(t, c, engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	s.Intercept(fault(http.StatusOK, `{"data":[],"pad":"`+strings.Repeat("x", 1<<10)+`"}`))
	if msg := toolError(t, cs, "n8n_list_workflows", nil); !strings.Contains(msg, "larger than 1024 bytes") {
		t.Error(msg)
	}
	s.Intercept(fault(http.StatusOK, `{"data":[]}`))
	result[obj](t, cs, "n8n_list_workflows", nil)
}

func TestTimeout(t *testing.T) {
	for name, tt := range map[string]struct {
		timeout time.Duration
		extra   map[string]json.RawMessage
	}{
		"too long":        {50 * time.Millisecond, map[string]json.RawMessage{"n8nApiTimeout": json.RawMessage("1e300")}},
		"no number":       {50 * time.Millisecond, map[string]json.RawMessage{"n8nApiTimeout": json.RawMessage(`"soon"`)}},
		"of the context":  {time.Hour, map[string]json.RawMessage{"n8nApiTimeout": json.RawMessage("50")}},
		"next to no time": {time.Hour, map[string]json.RawMessage{"n8nApiTimeout": json.RawMessage("0.001")}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startN8n(t)
			c := newClient(t, n8n.ClientOptions{Policy: n8n.Moderate, Timeout: tt.timeout})
			cs := connect(t, c, engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey, Extra: tt.extra})
			s.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				return true
			})
			if msg := toolError(t, cs, "n8n_list_workflows", nil); !strings.Contains(msg, "did not answer in time") {
				t.Error(msg)
			}
		})
	}
}

func TestConnectionFailures(t *testing.T) {
	s := startN8n(t)
	c := moderate(t)
	cs := connect(t, c, engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	s.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_ = conn.Close()
		return true
	})
	if msg := toolError(t, cs, "n8n_list_workflows", nil); !strings.Contains(msg, "the connection to n8n failed") || strings.Contains(msg, "127.0.0.1") {
		t.Error(msg)
	}
	_ = s.Close()
	if msg := toolError(t, cs, "n8n_list_workflows", nil); !strings.Contains(msg, "connection refused") {
		t.Error(msg)
	}
	secure := httptest.NewTLSServer(s)
	defer secure.Close()
	secure.Config.ErrorLog = nil
	cs = connect(t, c, engine.InstanceContext{N8nAPIURL: secure.URL, N8nAPIKey: acmeKey})
	if msg := toolError(t, cs, "n8n_list_workflows", nil); !strings.Contains(msg, "certificate") {
		t.Error(msg)
	}
}

func TestUnresolvableHost(t *testing.T) {
	c := newClient(t, n8n.ClientOptions{Resolver: brokenResolver()})
	cs := connect(t, c, engine.InstanceContext{N8nAPIURL: "http://n8n.example.com", N8nAPIKey: acmeKey})
	if msg := toolError(t, cs, "n8n_list_workflows", nil); !strings.Contains(msg, "cannot be resolved") {
		t.Error(msg)
	}
}

func brokenResolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
}

// The name passes Validate under strict and resolves to loopback: the dial-time guard stops every tool,
// and nothing arrives.
func TestRebindingIsStopped(t *testing.T) {
	s := startN8n(t)
	c := newClient(t, n8n.ClientOptions{Policy: n8n.Strict, Resolver: resolverTo(t, "127.0.0.1")})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL(), "http://"))
	cs := connect(t, c, engine.InstanceContext{N8nAPIURL: "http://rebind.example.com:" + port, N8nAPIKey: acmeKey})
	for tool, args := range everyTool {
		if msg := toolError(t, cs, tool, args); !strings.Contains(msg, `address refused by the URL policy "strict": a loopback address`) {
			t.Errorf("%s: %s", tool, msg)
		}
	}
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// A redirect is neither followed nor given the key.
func TestRedirectsAreNotFollowed(t *testing.T) {
	s, other := startN8n(t), startN8n(t)
	s.Intercept(fault(http.StatusTemporaryRedirect, "", "Location", other.URL()+"/api/v1/workflows"))
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	for tool, args := range everyTool {
		toolError(t, cs, tool, args)
	}
	if n := other.Requests(); n != 0 {
		t.Errorf("%d requests followed", n)
	}
}

func TestBadArguments(t *testing.T) {
	s := startN8n(t)
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	for _, tt := range []struct {
		tool string
		args any
	}{
		{"n8n_get_workflow", obj{}},
		{"n8n_get_workflow", obj{"id": ""}},
		{"n8n_get_workflow", obj{"id": "../executions/1"}},
		{"n8n_get_workflow", obj{"id": "a/b"}},
		{"n8n_get_workflow", obj{"id": "a?x=1"}},
		{"n8n_get_workflow", obj{"id": "a\n"}},
		{"n8n_get_workflow", obj{"id": strings.Repeat("a", 65)}},
		{"n8n_get_workflow", obj{"id": 5}},
		{"n8n_get_workflow", obj{"id": "a", "url": "http://evil.example"}},
		{"n8n_get_execution", obj{"id": ".."}},
		{"n8n_list_workflows", obj{"limit": 0}},
		{"n8n_list_workflows", obj{"limit": 251}},
		{"n8n_list_workflows", obj{"limit": "ten"}},
		{"n8n_list_executions", obj{"status": "bad"}},
		{"n8n_create_workflow", obj{"name": "", "nodes": []obj{}, "connections": obj{}}},
		{"n8n_create_workflow", obj{"name": "n"}},
		{"n8n_create_workflow", obj{"name": "n", "nodes": "x", "connections": obj{}}},
		{"n8n_update_workflow", obj{"id": "a"}},
		{"n8n_activate_workflow", nil},
	} {
		toolError(t, cs, tt.tool, tt.args)
	}
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestNewServerRefuses(t *testing.T) {
	c := newClient(t, n8n.ClientOptions{})
	for _, tt := range []struct {
		ic   engine.InstanceContext
		want error
	}{
		{engine.InstanceContext{N8nAPIURL: "https://n8n.example.com"}, n8n.ErrPartialContext},
		{engine.InstanceContext{N8nAPIKey: "k"}, n8n.ErrPartialContext},
		{engine.InstanceContext{N8nAPIURL: "http://127.0.0.1", N8nAPIKey: "k"}, n8n.ErrAddressRefused},
		{engine.InstanceContext{N8nAPIURL: "http://0x7f.1", N8nAPIKey: "k"}, n8n.ErrInvalidURL},
	} {
		if s, err := n8n.NewServer(tt.ic, n8n.ServerOptions{Client: c}); s != nil || !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt.ic, err)
		}
	}
	if _, err := n8n.NewServer(engine.InstanceContext{}, n8n.ServerOptions{}); err == nil {
		t.Error("a server without a client")
	}
	if _, err := n8n.NewClient(n8n.ClientOptions{Policy: 9}); err == nil {
		t.Error("a policy that does not exist")
	}
}
