package n8n_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

type workflows struct {
	Workflows []struct {
		ID, Name string
		Active   bool
		Nodes    int
		Tags     []string
	}
	NextCursor string
}

type executions struct {
	Executions []struct{ ID, WorkflowID, Status, Mode string }
	NextCursor string
}

func TestHealthCheck(t *testing.T) {
	s := startN8n(t)
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL() + "/", N8nAPIKey: acmeKey})
	got := result[struct {
		Status, URL, Liveness string
		HasWorkflows          bool
	}](t, cs, "n8n_health_check", nil)
	if got.Status != "ok" || got.Liveness != "ok" || got.URL != s.URL() || !got.HasWorkflows {
		t.Errorf("got %+v", got)
	}
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Path == "/healthz" && fault(http.StatusNotFound, "nope")(w, r)
	})
	if got := result[obj](t, cs, "n8n_health_check", nil); got["liveness"] != "unavailable" {
		t.Errorf("behind a proxy: %+v", got)
	}
}

// The whole life of a workflow.
func TestWorkflows(t *testing.T) {
	s := startN8n(t)
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL() + "/api/v1", N8nAPIKey: acmeKey})
	node := obj{"id": "1", "name": "Hook", "type": "n8n-nodes-base.webhook", "typeVersion": 2, "position": []int{0, 0}, "parameters": obj{"big": 1e15}}
	made := result[obj](t, cs, "n8n_create_workflow", obj{"name": "New one", "nodes": []obj{node}, "connections": obj{}})
	id := made["id"].(string)
	if s.Owner(id) != "acme" || made["active"] != false || made["settings"].(obj)["executionOrder"] != "v1" {
		t.Fatalf("created: %v", made)
	}
	if got := result[obj](t, cs, "n8n_activate_workflow", obj{"id": id}); got["active"] != true {
		t.Errorf("activated: %v", got)
	}
	list := result[workflows](t, cs, "n8n_list_workflows", obj{"active": true, "name": "New"})
	if len(list.Workflows) != 1 || list.Workflows[0].ID != id || list.Workflows[0].Nodes != 1 || !slices.Equal(list.Workflows[0].Tags, []string{"tenant:acme"}) {
		t.Errorf("listed: %+v", list)
	}
	if got := result[obj](t, cs, "n8n_deactivate_workflow", obj{"id": id}); got["active"] != false {
		t.Errorf("deactivated: %v", got)
	}
	renamed := result[obj](t, cs, "n8n_update_workflow", obj{"id": id, "name": "Other", "settings": obj{"timezone": "Europe/Berlin"}})
	got := result[obj](t, cs, "n8n_get_workflow", obj{"id": id})
	if got["name"] != "Other" || !jsonEqual(got["nodes"], made["nodes"]) || !jsonEqual(got, renamed) || got["settings"].(obj)["timezone"] != "Europe/Berlin" {
		t.Errorf("updated: %v", got)
	}
	got = result[obj](t, cs, "n8n_update_workflow", obj{"id": id, "nodes": []obj{}, "connections": obj{}})
	if len(got["nodes"].([]any)) != 0 || got["name"] != "Other" || got["settings"].(obj)["timezone"] != "Europe/Berlin" {
		t.Errorf("emptied: %v", got)
	}
	if msg := toolError(t, cs, "n8n_activate_workflow", obj{"id": id}); !strings.Contains(msg, "trigger") {
		t.Errorf("activated without a trigger: %s", msg)
	}
}

// What n8n shows in settings and refuses to take back is left out; what this release does not know is not.
func TestUpdateKeepsUnknownSettings(t *testing.T) {
	s := startN8n(t)
	var sent string
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			data := make([]byte, r.ContentLength)
			_, _ = r.Body.Read(data)
			sent = string(data)
		}
		return fault(http.StatusOK, `{"id":"a","name":"n","versionId":"v","nodes":[{"new":1}],"connections":{},"nodeGroups":[],
			"settings":{"binaryMode":"x","credentialResolverId":null,"executionOrder":"v1","newSetting":7}}`)(w, r)
	})
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	result[obj](t, cs, "n8n_update_workflow", obj{"id": "a", "name": "m"})
	const want = `{"connections":{},"name":"m","nodeGroups":[],"nodes":[{"new":1}],"settings":{"executionOrder":"v1","newSetting":7}}`
	if sent != want {
		t.Errorf("sent %s\nwant %s", sent, want)
	}
}

func TestExecutions(t *testing.T) {
	s := startN8n(t)
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	all := result[executions](t, cs, "n8n_list_executions", nil)
	if len(all.Executions) != 3 || all.Executions[1].Status != "error" || s.Owner(all.Executions[0].WorkflowID) != "acme" {
		t.Fatalf("listed: %+v", all)
	}
	bad := result[executions](t, cs, "n8n_list_executions", obj{"status": "error", "workflowId": all.Executions[0].WorkflowID})
	if len(bad.Executions) != 1 {
		t.Errorf("filtered: %+v", bad)
	}
	id := all.Executions[0].ID
	if got := result[obj](t, cs, "n8n_get_execution", obj{"id": id}); got["data"] != nil || got["customData"].(obj)["tenant"] != "acme" {
		t.Errorf("without data: %v", got)
	}
	if got := result[obj](t, cs, "n8n_get_execution", obj{"id": id, "includeData": true}); got["data"] == nil {
		t.Errorf("with data: %v", got)
	}
	s.Intercept(fault(http.StatusOK, `{"data":[{"id":1000,"workflowId":12345678901234567890,"finished":true}],"nextCursor":null}`))
	old := result[executions](t, cs, "n8n_list_executions", nil)
	if old.Executions[0].ID != "1000" || old.Executions[0].WorkflowID != "12345678901234567890" {
		t.Errorf("an old n8n's numbers: %+v", old)
	}
}

func TestPages(t *testing.T) {
	s := startN8n(t)
	cs := connect(t, moderate(t), engine.InstanceContext{N8nAPIURL: s.URL(), N8nAPIKey: acmeKey})
	for i := range 5 {
		result[obj](t, cs, "n8n_create_workflow", obj{"name": fmt.Sprintf("w%d", i), "nodes": []obj{}, "connections": obj{}})
	}
	var names []string
	args, pages := obj{"limit": 2}, 0
	for {
		page := result[workflows](t, cs, "n8n_list_workflows", args)
		pages++
		for _, w := range page.Workflows {
			names = append(names, w.Name)
		}
		if page.NextCursor == "" {
			break
		}
		args["cursor"] = page.NextCursor
	}
	if slices.Sort(names); len(slices.Compact(names)) != 7 || pages != 4 {
		t.Errorf("%d pages: %v", pages, names)
	}
	if msg := toolError(t, cs, "n8n_list_workflows", obj{"cursor": "!"}); !strings.Contains(msg, "cursor") {
		t.Errorf("a bad cursor: %s", msg)
	}
}

// Two tenants on one instance, over streamable HTTP, at the same time: each sees its own and nothing else.
func TestTenantsOverHTTP(t *testing.T) {
	s := startN8n(t)
	c := moderate(t)
	front := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(r *http.Request) *mcp.Server {
		ic, err := n8n.ParseContext(r.Header)
		if err != nil || ic == nil {
			return nil
		}
		server, err := n8n.NewServer(*ic, n8n.ServerOptions{Client: c})
		if err != nil {
			return nil
		}
		return server
	}, nil))
	defer front.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		name, key := "acme", acmeKey
		if i%2 == 1 {
			name, key = "globex", globexKey
		}
		wg.Go(func() {
			cs := overHTTP(t, front.URL, http.Header{"X-N8n-Url": {s.URL()}, "X-N8n-Key": {key}})
			defer func() { _ = cs.Close() }()
			for range 10 {
				for _, w := range result[workflows](t, cs, "n8n_list_workflows", nil).Workflows {
					if s.Owner(w.ID) != name || !slices.Equal(w.Tags, []string{n8ntest.MarkerTag(name)}) {
						t.Errorf("%s was given %+v", name, w)
					}
				}
			}
		})
	}
	wg.Wait()
}

func overHTTP(t *testing.T, url string, h http.Header) *mcp.ClientSession {
	t.Helper()
	cs, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: withHeaders(h)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

type withHeaders http.Header

func (h withHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	maps.Copy(r.Header, http.Header(h))
	return http.DefaultTransport.RoundTrip(r)
}
