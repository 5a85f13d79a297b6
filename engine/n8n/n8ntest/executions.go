package n8ntest

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// execution is one execution as n8n shows it.
type execution struct {
	ID         string            `json:"id"`
	Finished   bool              `json:"finished"`
	Mode       string            `json:"mode"`
	RetryOf    *string           `json:"retryOf"`
	Status     string            `json:"status"`
	StartedAt  string            `json:"startedAt"`
	StoppedAt  string            `json:"stoppedAt"`
	WorkflowID string            `json:"workflowId"`
	WaitTill   *string           `json:"waitTill"`
	CustomData map[string]string `json:"customData"`
	Data       json.RawMessage   `json:"data,omitempty"`
}

func (t *tenant) run(w *workflow, status string) *execution {
	now := time.Now()
	data, _ := json.Marshal(map[string]any{"resultData": map[string]any{ // cannot fail: strings alone
		"runData": map[string]any{}, "lastNodeExecuted": "Fetch", "tenant": t.name,
	}})
	e := &execution{
		ID: t.server.nextExecution(), Finished: status == "success", Mode: "trigger", Status: status,
		StartedAt: timestamp(now.Add(-time.Second)), StoppedAt: timestamp(now), WorkflowID: w.ID,
		CustomData: map[string]string{"tenant": t.name}, Data: data,
	}
	t.executions = append(t.executions, e)
	return e
}

// show returns the execution with its data or without.
func (e *execution) show(includeData bool) *execution {
	c := *e
	if !includeData {
		c.Data = nil
	}
	return &c
}

func listExecutions(t *tenant, w http.ResponseWriter, r *http.Request) {
	if !knownQuery(w, r, "includeData", "status", "workflowId", "projectId", "limit", "cursor") {
		return
	}
	p, ok := readPage(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	var found []*execution
	for _, e := range slices.Backward(t.executions) { // newest first
		if (q.Get("status") == "" || q.Get("status") == e.Status) && (q.Get("workflowId") == "" || q.Get("workflowId") == e.WorkflowID) {
			found = append(found, e.show(q.Get("includeData") == "true"))
		}
	}
	shown, next := p.cut(len(found))
	answer(w, http.StatusOK, map[string]any{"data": append([]*execution{}, found[shown.from:shown.to]...), "nextCursor": next})
}

func (t *tenant) findExecution(id string) *execution {
	for _, e := range t.executions {
		if e.ID == id {
			return e
		}
	}
	return nil
}

func getExecution(t *tenant, w http.ResponseWriter, r *http.Request) {
	if !knownQuery(w, r, "includeData") {
		return
	}
	e := t.findExecution(r.PathValue("id"))
	if e == nil {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, e.show(r.URL.Query().Get("includeData") == "true"))
}

func deleteExecution(t *tenant, w http.ResponseWriter, r *http.Request) {
	e := t.findExecution(r.PathValue("id"))
	if e == nil {
		notFound(w)
		return
	}
	t.executions = slices.DeleteFunc(t.executions, func(o *execution) bool { return o == e })
	answer(w, http.StatusOK, e.show(false))
}
