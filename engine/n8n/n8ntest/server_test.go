package n8ntest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

func start(t *testing.T) *n8ntest.Server {
	t.Helper()
	s := n8ntest.New(n8ntest.Tenant{Name: "acme", Key: "a-key"}, n8ntest.Tenant{Name: "globex", Key: "g-key"})
	if err := s.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ask makes a request and returns status, marker and the decoded answer.
func ask(t *testing.T, s *n8ntest.Server, method, path, key, body string) (int, string, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-N8N-API-KEY", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, _ := io.ReadAll(resp.Body)
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("%s %s: %v in %q", method, path, err, data)
	}
	return resp.StatusCode, resp.Header.Get(n8ntest.MarkerHeader), out
}

const small = `{"name":"n","nodes":[],"connections":{},"settings":{}}`

func TestAnswersLikeN8n(t *testing.T) {
	s := start(t)
	for _, tt := range []struct {
		method, path, key, body string
		status                  int
		message                 string
	}{
		{"GET", "/api/v1/workflows", "", "", 401, "'X-N8N-API-KEY' header required"},
		{"GET", "/api/v1/workflows", "wrong", "", 401, "unauthorized"},
		{"GET", "/api/v1/workflows?limit=251", "a-key", "", 400, "request/query/limit must be <= 250"},
		{"GET", "/api/v1/workflows?limit=x", "a-key", "", 400, "request/query/limit must be number"},
		{"GET", "/api/v1/workflows?cursor=x", "a-key", "", 400, "An invalid cursor was provided"},
		{"GET", "/api/v1/workflows?size=x", "a-key", "", 400, "Unknown query parameter 'size'"},
		{"GET", "/api/v1/workflows/none", "a-key", "", 404, "Not Found"},
		{"PUT", "/api/v1/workflows/none", "a-key", small, 404, "Not Found"},
		{"DELETE", "/api/v1/workflows/none", "a-key", "", 404, "Not Found"},
		{"POST", "/api/v1/workflows/none/activate", "a-key", "", 404, "Not Found"},
		{"GET", "/api/v1/executions/999", "a-key", "", 404, "Not Found"},
		{"DELETE", "/api/v1/executions/999", "a-key", "", 404, "Not Found"},
		{"GET", "/api/v2/workflows", "a-key", "", 404, "not found"},
		{"POST", "/api/v1/workflows", "a-key", `[]`, 400, "request/body must be object"},
		{"POST", "/api/v1/workflows", "a-key", `{"name":"n"}`, 400, "request/body must have required property 'nodes'"},
		{"POST", "/api/v1/workflows", "a-key", strings.Replace(small, "{", `{"id":"x",`, 1), 400, "request/body/id is read-only"},
		{"POST", "/api/v1/workflows", "a-key", strings.Replace(small, "{", `{"extra":1,`, 1), 400, "request/body must NOT have additional properties"},
		{"POST", "/api/v1/workflows", "a-key", strings.Replace(small, "[]", "[1]", 1), 400, "request/body/nodes/0 must be object"},
		{"POST", "/api/v1/workflows", "a-key", strings.Replace(small, `"settings":{}`, `"settings":1`, 1), 400, "request/body/settings must be object"},
		{"POST", "/api/v1/workflows", "a-key", small, 200, ""},
		{"GET", "/api/v1/workflows?limit=1&name=Nightly", "a-key", "", 200, ""},
	} {
		status, marker, out := ask(t, s, tt.method, tt.path, tt.key, tt.body)
		message, _ := out["message"].(string)
		if status != tt.status || message != tt.message {
			t.Errorf("%s %s: %d %q; want %d %q", tt.method, tt.path, status, message, tt.status, tt.message)
		}
		if accepted := tt.key == "a-key" && tt.path != "/api/v2/workflows"; (marker == "acme") != accepted {
			t.Errorf("%s %s: marker %q", tt.method, tt.path, marker)
		}
	}
}

func TestTenantsAreApart(t *testing.T) {
	s := start(t)
	_, _, made := ask(t, s, "POST", "/api/v1/workflows", "a-key", small)
	id := made["id"].(string)
	if s.Owner(id) != "acme" || s.Owner("x") != "" {
		t.Errorf("owner of %s: %q", id, s.Owner(id))
	}
	if status, marker, _ := ask(t, s, "GET", "/api/v1/workflows/"+id, "g-key", ""); status != 404 || marker != "globex" {
		t.Errorf("another tenant's workflow: %d, %s", status, marker)
	}
	if status, _, _ := ask(t, s, "DELETE", "/api/v1/workflows/"+id, "a-key", ""); status != 200 {
		t.Errorf("deleted: %d", status)
	}
	if err := s.SetKey("acme", "new-key"); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := ask(t, s, "GET", "/api/v1/workflows", "a-key", ""); status != 401 {
		t.Errorf("the old key: %d", status)
	}
	if status, _, _ := ask(t, s, "GET", "/api/v1/workflows", "new-key", ""); status != 200 {
		t.Errorf("the new key: %d", status)
	}
	if err := s.SetKey("nobody", "k"); !errors.Is(err, n8ntest.ErrNoTenant) {
		t.Errorf("nobody's key: %v", err)
	}
}

func TestExecutionsPageAndDisappear(t *testing.T) {
	s := start(t)
	_, _, made := ask(t, s, "POST", "/api/v1/workflows", "a-key", small)
	id := made["id"].(string)
	last, err := s.AddExecution("acme", id, "error")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddExecution("globex", id, "error"); !errors.Is(err, n8ntest.ErrNoTenant) {
		t.Errorf("another tenant's workflow ran: %v", err)
	}
	_, _, page := ask(t, s, "GET", "/api/v1/executions?limit=2", "a-key", "")
	data := page["data"].([]any)
	if first := data[0].(map[string]any); len(data) != 2 || first["id"] != last || first["data"] != nil || page["nextCursor"] == nil {
		t.Errorf("first page: %v", page)
	}
	_, _, page = ask(t, s, "GET", "/api/v1/executions?cursor="+page["nextCursor"].(string), "a-key", "")
	if len(page["data"].([]any)) != 2 || page["nextCursor"] != nil {
		t.Errorf("last page: %v", page)
	}
	if status, _, _ := ask(t, s, "DELETE", "/api/v1/executions/"+last, "a-key", ""); status != 200 {
		t.Errorf("deleted: %d", status)
	}
}

func TestStartListensOnLoopbackAlone(t *testing.T) {
	s := n8ntest.New()
	if err := s.Start(t.Context(), "0.0.0.0:0"); err == nil {
		t.Error("listens on all addresses")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
