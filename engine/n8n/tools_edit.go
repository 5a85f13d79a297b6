package n8n

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type createWorkflowInput struct {
	Name        string   `json:"name" jsonschema:"the workflow's name"`
	Nodes       []object `json:"nodes" jsonschema:"the nodes, each with id, name, type, typeVersion, position and parameters"`
	Connections object   `json:"connections" jsonschema:"by the name of the node that they start from, as in {\"Webhook\": {\"main\": [[{\"node\": \"Set\", \"type\": \"main\", \"index\": 0}]]}}"`
	Settings    object   `json:"settings,omitempty" jsonschema:"default: {\"executionOrder\": \"v1\"}"`
}

func createWorkflow() func(*mcp.Server, *api) {
	return define(&mcp.Tool{
		Name:         "n8n_create_workflow",
		Description:  "Create a workflow. It is inactive until n8n_activate_workflow.",
		Annotations:  adds("Create a workflow", false),
		OutputSchema: workflowSchema(),
	}, func(in map[string]*jsonschema.Schema) { constrainName(in["name"]) },
		func(ctx context.Context, a *api, in createWorkflowInput) (object, error) {
			body := object{"name": in.Name, "nodes": in.Nodes, "connections": in.Connections, "settings": in.Settings}
			if len(in.Settings) == 0 {
				body["settings"] = object{"executionOrder": "v1"}
			}
			return a.object(ctx, call{method: http.MethodPost, path: apiPath("workflows"), body: body})
		})
}

type updateWorkflowInput struct {
	ID          string   `json:"id" jsonschema:"the workflow's ID"`
	Name        string   `json:"name,omitempty" jsonschema:"a new name; absent: as before"`
	Nodes       []object `json:"nodes,omitempty" jsonschema:"all nodes, in place of the present ones; absent: as before"`
	Connections object   `json:"connections,omitempty" jsonschema:"all connections, in place of the present ones; absent: as before"`
	Settings    object   `json:"settings,omitempty" jsonschema:"all settings, in place of the present ones; absent: as before"`
}

func updateWorkflow() func(*mcp.Server, *api) {
	return define(&mcp.Tool{
		Name: "n8n_update_workflow",
		Description: "Replace a workflow's name, nodes, connections or settings; what is absent stays. " +
			"Somebody else's change of the same workflow in the same moment may be overwritten.",
		Annotations:  replaces("Update a workflow"),
		OutputSchema: workflowSchema(),
	}, func(in map[string]*jsonschema.Schema) { constrainID(in["id"]); constrainName(in["name"]) },
		func(ctx context.Context, a *api, in updateWorkflowInput) (object, error) {
			if in.isEmpty() {
				return nil, errors.New("nothing to change: give a name, nodes, connections or settings")
			}
			// n8n replaces a workflow as a whole, so what stays has to be read first.
			current, err := a.object(ctx, call{method: http.MethodGet, path: apiPath("workflows", in.ID)})
			if err != nil {
				return nil, err
			}
			return a.object(ctx, call{method: http.MethodPut, path: apiPath("workflows", in.ID), body: in.over(current)})
		})
}

func (in updateWorkflowInput) isEmpty() bool {
	return in.Name == "" && in.Nodes == nil && in.Connections == nil && in.Settings == nil
}

// over lays the input over the current workflow. Only what n8n lets callers write is kept: it refuses a
// body that has the other fields of its own answer.
func (in updateWorkflowInput) over(current object) object {
	body := object{"nodes": []object{}, "connections": object{}}
	for _, field := range []string{"name", "nodes", "connections", "settings", "nodeGroups"} {
		if v, ok := current[field]; ok && v != nil {
			body[field] = v
		}
	}
	if in.Name != "" {
		body["name"] = in.Name
	}
	if in.Nodes != nil {
		body["nodes"] = in.Nodes
	}
	if in.Connections != nil {
		body["connections"] = in.Connections
	}
	if in.Settings != nil {
		body["settings"] = in.Settings
	}
	body["settings"] = writableSettings(body["settings"])
	return body
}

// writableSettings leaves out the settings that n8n derives, shows and refuses, and adds the one without
// which it refuses them all.
func writableSettings(v any) object {
	settings, _ := v.(object)
	out := object{}
	for name, value := range settings {
		if name != "binaryMode" && name != "credentialResolverId" {
			out[name] = value
		}
	}
	if len(out) == 0 {
		out["executionOrder"] = "v1"
	}
	return out
}

type setActiveInput struct {
	ID string `json:"id" jsonschema:"the workflow's ID"`
}

func setActive(active bool) func(*mcp.Server, *api) {
	verb := "deactivate"
	t := &mcp.Tool{
		Name:         "n8n_deactivate_workflow",
		Description:  "Deactivate a workflow: its triggers no longer start it. Nothing happens if it is inactive.",
		Annotations:  replaces("Deactivate a workflow"),
		OutputSchema: workflowSchema(),
	}
	if active {
		verb = "activate"
		t.Name = "n8n_activate_workflow"
		t.Description = "Activate a workflow: from now on its triggers start it. It needs a trigger node. Nothing happens if it is active."
		t.Annotations = adds("Activate a workflow", true)
	}
	return define(t, func(in map[string]*jsonschema.Schema) { constrainID(in["id"]) },
		func(ctx context.Context, a *api, in setActiveInput) (object, error) {
			return a.object(ctx, call{method: http.MethodPost, path: apiPath("workflows", in.ID, verb), body: object{}})
		})
}
