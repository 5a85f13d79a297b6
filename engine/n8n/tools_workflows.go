package n8n

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type healthInput struct{}

type healthOutput struct {
	Status       string `json:"status" jsonschema:"ok: the instance answers and takes the key"`
	URL          string `json:"url" jsonschema:"the instance that this session works on"`
	Liveness     string `json:"liveness" jsonschema:"the answer of n8n's own /healthz: ok, or unavailable where it is not exposed"`
	APIMillis    int64  `json:"apiMillis" jsonschema:"how long the API took to answer, in milliseconds"`
	HasWorkflows bool   `json:"hasWorkflows" jsonschema:"whether the key sees any workflow"`
}

func healthCheck() func(*mcp.Server, *api) {
	return define(&mcp.Tool{
		Name:        "n8n_health_check",
		Description: "Check that the n8n instance of this session can be reached, answers, and takes the session's key.",
		Annotations: reads("Check n8n"),
	}, nil, func(ctx context.Context, a *api, _ healthInput) (healthOutput, error) {
		start := time.Now()
		var page workflowPage
		err := a.do(ctx, call{method: http.MethodGet, path: apiPath("workflows"), query: url.Values{"limit": {"1"}}}, &page)
		if err != nil {
			return healthOutput{}, err
		}
		out := healthOutput{
			Status: "ok", URL: a.base, Liveness: "unavailable",
			APIMillis: time.Since(start).Milliseconds(), HasWorkflows: len(page.Data) > 0,
		}
		var live struct {
			Status string `json:"status"`
		}
		// Many instances are behind a proxy that lets only the API through: not an error.
		if a.do(ctx, call{method: http.MethodGet, path: []string{"healthz"}, public: true}, &live) == nil && live.Status == "ok" {
			out.Liveness = "ok"
		}
		return out, nil
	})
}

type listWorkflowsInput struct {
	Active    *bool  `json:"active,omitempty" jsonschema:"only active (true) or inactive (false) workflows; default: both"`
	Name      string `json:"name,omitempty" jsonschema:"only workflows whose name contains this"`
	Tags      string `json:"tags,omitempty" jsonschema:"only workflows with all of these tags, separated by commas"`
	ProjectID string `json:"projectId,omitempty" jsonschema:"only workflows of this project"`
	Limit     int    `json:"limit,omitempty" jsonschema:"how many at most, 1 to 250; default 100"`
	Cursor    string `json:"cursor,omitempty" jsonschema:"nextCursor of the page before; absent: the first page"`
}

type workflowSummary struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Active     bool     `json:"active"`
	IsArchived bool     `json:"isArchived,omitempty"`
	Nodes      int      `json:"nodes" jsonschema:"how many nodes it has"`
	Tags       []string `json:"tags"`
	CreatedAt  string   `json:"createdAt,omitempty"`
	UpdatedAt  string   `json:"updatedAt,omitempty"`
}

type listWorkflowsOutput struct {
	Workflows  []workflowSummary `json:"workflows"`
	NextCursor string            `json:"nextCursor,omitempty" jsonschema:"pass it as cursor for the next page; absent: this is the last"`
}

// workflowPage is n8n's answer, as far as it is used.
type workflowPage struct {
	Data []struct {
		ID         string     `json:"id"`
		Name       string     `json:"name"`
		Active     bool       `json:"active"`
		IsArchived bool       `json:"isArchived"`
		Nodes      []struct{} `json:"nodes"`
		Tags       []struct {
			Name string `json:"name"`
		} `json:"tags"`
		CreatedAt string `json:"createdAt"`
		UpdatedAt string `json:"updatedAt"`
	} `json:"data"`
	NextCursor string `json:"nextCursor"`
}

func listWorkflows() func(*mcp.Server, *api) {
	return define(&mcp.Tool{
		Name:        "n8n_list_workflows",
		Description: "List workflows, without their nodes; n8n_get_workflow gives one in full. Pages: pass nextCursor back as cursor.",
		Annotations: reads("List workflows"),
	}, constrainPage, func(ctx context.Context, a *api, in listWorkflowsInput) (listWorkflowsOutput, error) {
		q := pageQuery(in.Limit, in.Cursor)
		if in.Active != nil {
			q.Set("active", strconv.FormatBool(*in.Active))
		}
		setUnlessEmpty(q, "name", in.Name)
		setUnlessEmpty(q, "tags", in.Tags)
		setUnlessEmpty(q, "projectId", in.ProjectID)
		var page workflowPage
		if err := a.do(ctx, call{method: http.MethodGet, path: apiPath("workflows"), query: q}, &page); err != nil {
			return listWorkflowsOutput{}, err
		}
		return page.summary(), nil
	})
}

func (p *workflowPage) summary() listWorkflowsOutput {
	out := listWorkflowsOutput{Workflows: make([]workflowSummary, 0, len(p.Data)), NextCursor: p.NextCursor}
	for _, w := range p.Data {
		s := workflowSummary{
			ID: w.ID, Name: w.Name, Active: w.Active, IsArchived: w.IsArchived, Nodes: len(w.Nodes),
			Tags: make([]string, 0, len(w.Tags)), CreatedAt: w.CreatedAt, UpdatedAt: w.UpdatedAt,
		}
		for _, t := range w.Tags {
			s.Tags = append(s.Tags, t.Name)
		}
		out.Workflows = append(out.Workflows, s)
	}
	return out
}

type getWorkflowInput struct {
	ID string `json:"id" jsonschema:"the workflow's ID"`
}

func getWorkflow() func(*mcp.Server, *api) {
	return define(&mcp.Tool{
		Name:         "n8n_get_workflow",
		Description:  "Get one workflow in full: nodes, connections, settings.",
		Annotations:  reads("Get a workflow"),
		OutputSchema: workflowSchema(),
	}, func(in map[string]*jsonschema.Schema) { constrainID(in["id"]) },
		func(ctx context.Context, a *api, in getWorkflowInput) (object, error) {
			return a.object(ctx, call{method: http.MethodGet, path: apiPath("workflows", in.ID)})
		})
}

// object makes a call whose answer is passed on whole.
func (a *api) object(ctx context.Context, c call) (object, error) {
	var out object
	err := a.do(ctx, c, &out)
	return out, err
}

// workflowSchema describes what every n8n gives; newer ones give more.
func workflowSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{
		"id":          {Type: "string"},
		"name":        {Type: "string"},
		"active":      {Type: "boolean"},
		"nodes":       {Type: "array", Items: &jsonschema.Schema{Type: "object"}},
		"connections": {Type: "object", Description: "by the name of the node that they start from"},
		"settings":    {Types: []string{"object", "null"}},
	}}
}

func apiPath(segments ...string) []string { return append([]string{"api", "v1"}, segments...) }

func pageQuery(limit int, cursor string) url.Values {
	q := url.Values{"limit": {"100"}}
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	setUnlessEmpty(q, "cursor", cursor)
	return q
}

func setUnlessEmpty(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}
