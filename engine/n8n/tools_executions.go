package n8n

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type listExecutionsInput struct {
	WorkflowID string `json:"workflowId,omitempty" jsonschema:"only executions of this workflow"`
	ProjectID  string `json:"projectId,omitempty" jsonschema:"only executions of this project"`
	Status     string `json:"status,omitempty" jsonschema:"only executions with this status"`
	Limit      int    `json:"limit,omitempty" jsonschema:"how many at most, 1 to 250; default 100"`
	Cursor     string `json:"cursor,omitempty" jsonschema:"nextCursor of the page before; absent: the first page"`
}

type executionSummary struct {
	ID         string `json:"id"`
	WorkflowID string `json:"workflowId"`
	Status     string `json:"status,omitempty"`
	Finished   bool   `json:"finished"`
	Mode       string `json:"mode,omitempty" jsonschema:"what started it: trigger, webhook, manual and so on"`
	StartedAt  string `json:"startedAt,omitempty"`
	StoppedAt  string `json:"stoppedAt,omitempty"`
}

type listExecutionsOutput struct {
	Executions []executionSummary `json:"executions"`
	NextCursor string             `json:"nextCursor,omitempty" jsonschema:"pass it as cursor for the next page; absent: this is the last"`
}

// flexibleID reads an ID that is a number in some releases of n8n and text in others.
type flexibleID string

// UnmarshalJSON takes a string or a number.
func (id *flexibleID) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var s string
		err := json.Unmarshal(data, &s)
		*id = flexibleID(s)
		return err
	}
	*id = flexibleID(strings.TrimSpace(string(data)))
	return nil
}

type executionPage struct {
	Data []struct {
		ID         flexibleID `json:"id"`
		WorkflowID flexibleID `json:"workflowId"`
		Status     string     `json:"status"`
		Finished   bool       `json:"finished"`
		Mode       string     `json:"mode"`
		StartedAt  string     `json:"startedAt"`
		StoppedAt  string     `json:"stoppedAt"`
	} `json:"data"`
	NextCursor string `json:"nextCursor"`
}

func listExecutions() func(*mcp.Server, *api) {
	return define(&mcp.Tool{
		Name:        "n8n_list_executions",
		Description: "List executions of workflows, newest first, without their data; n8n_get_execution gives one in full. Pages: pass nextCursor back as cursor.",
		Annotations: reads("List executions"),
	}, constrainExecutions, func(ctx context.Context, a *api, in listExecutionsInput) (listExecutionsOutput, error) {
		q := pageQuery(in.Limit, in.Cursor)
		setUnlessEmpty(q, "workflowId", in.WorkflowID)
		setUnlessEmpty(q, "projectId", in.ProjectID)
		setUnlessEmpty(q, "status", in.Status)
		var page executionPage
		if err := a.do(ctx, call{method: http.MethodGet, path: apiPath("executions"), query: q}, &page); err != nil {
			return listExecutionsOutput{}, err
		}
		return page.summary(), nil
	})
}

func constrainExecutions(in map[string]*jsonschema.Schema) {
	constrainPage(in)
	in["status"].Enum = []any{"canceled", "crashed", "error", "new", "running", "success", "unknown", "waiting"}
}

func (p *executionPage) summary() listExecutionsOutput {
	out := listExecutionsOutput{Executions: make([]executionSummary, 0, len(p.Data)), NextCursor: p.NextCursor}
	for _, e := range p.Data {
		out.Executions = append(out.Executions, executionSummary{
			ID: string(e.ID), WorkflowID: string(e.WorkflowID), Status: e.Status, Finished: e.Finished, Mode: e.Mode,
			StartedAt: e.StartedAt, StoppedAt: e.StoppedAt,
		})
	}
	return out
}

type getExecutionInput struct {
	ID          string `json:"id" jsonschema:"the execution's ID"`
	IncludeData bool   `json:"includeData,omitempty" jsonschema:"with the data of every node, which can be large; default false"`
}

func getExecution() func(*mcp.Server, *api) {
	return define(&mcp.Tool{
		Name:         "n8n_get_execution",
		Description:  "Get one execution; with includeData also what went in and out of every node.",
		Annotations:  reads("Get an execution"),
		OutputSchema: executionSchema(),
	}, func(in map[string]*jsonschema.Schema) { constrainID(in["id"]) },
		func(ctx context.Context, a *api, in getExecutionInput) (object, error) {
			q := url.Values{"includeData": {strconv.FormatBool(in.IncludeData)}}
			return a.object(ctx, call{method: http.MethodGet, path: apiPath("executions", in.ID), query: q})
		})
}

// executionSchema describes what every n8n gives; newer ones give more.
func executionSchema() *jsonschema.Schema {
	id := func() *jsonschema.Schema { return &jsonschema.Schema{Types: []string{"string", "number"}} }
	return &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{
		"id":         id(),
		"workflowId": id(),
		"status":     {Type: "string"},
		"finished":   {Type: "boolean"},
		"mode":       {Type: "string"},
		"startedAt":  {Types: []string{"string", "null"}},
		"stoppedAt":  {Types: []string{"string", "null"}},
		"data":       {Types: []string{"object", "null"}, Description: "what went in and out of every node"},
	}}
}
