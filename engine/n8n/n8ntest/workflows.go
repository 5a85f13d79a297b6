package n8ntest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// workflow is one workflow as n8n shows it.
type workflow struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Active       bool              `json:"active"`
	IsArchived   bool              `json:"isArchived"`
	Nodes        []json.RawMessage `json:"nodes"`
	Connections  json.RawMessage   `json:"connections"`
	Settings     json.RawMessage   `json:"settings"`
	StaticData   json.RawMessage   `json:"staticData"`
	PinData      json.RawMessage   `json:"pinData"`
	Meta         json.RawMessage   `json:"meta"`
	Tags         []tag             `json:"tags"`
	VersionID    string            `json:"versionId"`
	TriggerCount int               `json:"triggerCount"`
	CreatedAt    string            `json:"createdAt"`
	UpdatedAt    string            `json:"updatedAt"`
}

type tag struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// workflowBody is what callers may write.
type workflowBody struct {
	Name        string            `json:"name"`
	Nodes       []json.RawMessage `json:"nodes"`
	Connections json.RawMessage   `json:"connections"`
	Settings    json.RawMessage   `json:"settings"`
	StaticData  json.RawMessage   `json:"staticData"`
	PinData     json.RawMessage   `json:"pinData"`
}

func (t *tenant) add(b workflowBody) *workflow {
	now := timestamp(time.Now())
	w := &workflow{ID: t.newID(), Tags: []tag{{ID: idPrefix(t.name), Name: MarkerTag(t.name)}}, CreatedAt: now}
	w.take(b)
	t.workflows = append(t.workflows, w)
	return w
}

func (w *workflow) take(b workflowBody) {
	w.Name, w.Nodes, w.Connections = b.Name, b.Nodes, b.Connections
	w.Settings = b.Settings
	if w.Settings == nil {
		w.Settings = json.RawMessage(`{"executionOrder":"v1"}`)
	}
	w.StaticData, w.PinData = b.StaticData, b.PinData
	w.VersionID = uuid.NewString()
	w.UpdatedAt = timestamp(time.Now())
	w.TriggerCount = w.triggers()
}

// triggers counts the nodes that can start the workflow.
func (w *workflow) triggers() (n int) {
	for _, data := range w.Nodes {
		var node struct {
			Type     string `json:"type"`
			Disabled bool   `json:"disabled"`
		}
		_ = json.Unmarshal(data, &node) // what is no object is no trigger
		kind := strings.ToLower(node.Type)
		if !node.Disabled && (strings.Contains(kind, "trigger") || strings.Contains(kind, "webhook")) {
			n++
		}
	}
	return n
}

func (t *tenant) find(id string) *workflow {
	for _, w := range t.workflows {
		if w.ID == id {
			return w
		}
	}
	return nil
}

func listWorkflows(t *tenant, w http.ResponseWriter, r *http.Request) {
	if !knownQuery(w, r, "active", "tags", "name", "projectId", "excludePinnedData", "limit", "cursor") {
		return
	}
	p, ok := readPage(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	found := slices.DeleteFunc(slices.Clone(t.workflows), func(f *workflow) bool {
		return q.Has("active") && f.Active != (q.Get("active") == "true") ||
			!strings.Contains(f.Name, strings.TrimSpace(q.Get("name"))) ||
			q.Get("tags") != "" && q.Get("tags") != f.Tags[0].Name
	})
	shown, next := p.cut(len(found))
	answer(w, http.StatusOK, map[string]any{"data": found[shown.from:shown.to], "nextCursor": next})
}

func getWorkflow(t *tenant, w http.ResponseWriter, r *http.Request) {
	f := t.find(r.PathValue("id"))
	if f == nil {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, f)
}

func createWorkflow(t *tenant, w http.ResponseWriter, r *http.Request) {
	body, err := readWorkflow(r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	answer(w, http.StatusOK, t.add(body))
}

func updateWorkflow(t *tenant, w http.ResponseWriter, r *http.Request) {
	f := t.find(r.PathValue("id"))
	if f == nil {
		notFound(w)
		return
	}
	body, err := readWorkflow(r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	f.take(body)
	answer(w, http.StatusOK, f)
}

func deleteWorkflow(t *tenant, w http.ResponseWriter, r *http.Request) {
	f := t.find(r.PathValue("id"))
	if f == nil {
		notFound(w)
		return
	}
	t.workflows = slices.DeleteFunc(t.workflows, func(o *workflow) bool { return o == f })
	answer(w, http.StatusOK, f)
}

func setActive(active bool) handler {
	return func(t *tenant, w http.ResponseWriter, r *http.Request) {
		f := t.find(r.PathValue("id"))
		if f == nil {
			notFound(w)
			return
		}
		if active && f.TriggerCount == 0 {
			fail(w, http.StatusBadRequest, "Workflow %q (ID: %s) has no node to start the workflow - at least one trigger, poller or webhook node is required", f.Name, f.ID)
			return
		}
		f.Active = active
		answer(w, http.StatusOK, f)
	}
}

// readWorkflow checks a body in the order and the words of n8n's validator.
func readWorkflow(r io.Reader) (b workflowBody, err error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return b, fmt.Errorf("request entity too large")
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil || fields == nil {
		return b, fmt.Errorf("request/body must be object")
	}
	for _, name := range []string{"name", "nodes", "connections", "settings"} {
		if _, ok := fields[name]; !ok {
			return b, fmt.Errorf("request/body must have required property '%s'", name)
		}
	}
	for _, name := range []string{"id", "active", "createdAt", "updatedAt", "versionId", "tags", "triggerCount", "meta", "isArchived"} {
		if _, ok := fields[name]; ok {
			return b, fmt.Errorf("request/body/%s is read-only", name)
		}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return b, fmt.Errorf("request/body must NOT have additional properties")
	}
	return b, checkWorkflow(b)
}

func checkWorkflow(b workflowBody) error {
	if b.Nodes == nil {
		return fmt.Errorf("request/body/nodes must be array")
	}
	for i, n := range b.Nodes {
		if !isObject(n) {
			return fmt.Errorf("request/body/nodes/%d must be object", i)
		}
	}
	if !isObject(b.Connections) {
		return fmt.Errorf("request/body/connections must be object")
	}
	if !isObject(b.Settings) {
		return fmt.Errorf("request/body/settings must be object")
	}
	return nil
}

func isObject(data json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) }
