package n8n

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine"
)

// ServerName is the name under which the built-in server introduces itself.
const ServerName = "dormouse-n8n"

const instructions = "Tools over the public REST API of the n8n instance that this session's x-n8n-url and " +
	"x-n8n-key headers name. Start with n8n_health_check when something does not work."

// ServerOptions configures the built-in server of one session.
type ServerOptions struct {
	Client  *Client // required; the same one for all sessions
	Version string  // the release, as shown to clients; empty = "dev"
}

func (o ServerOptions) withDefaults() (ServerOptions, error) {
	if o.Client == nil {
		return o, errors.New("n8n server: no client")
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	return o, nil
}

// NewServer returns an MCP server with the built-in n8n tools for one tenant. An empty context is
// allowed: its tools answer which headers to send. Any other must pass the client's policy, or NewServer
// fails as [Policy.Validate] does. The server reaches n8n only when a tool is called, and needs no closing.
func NewServer(ic engine.InstanceContext, o ServerOptions) (*mcp.Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	a, err := o.Client.newAPI(ic)
	if err != nil {
		return nil, fmt.Errorf("n8n server: %w", err)
	}
	s := mcp.NewServer(&mcp.Implementation{Name: ServerName, Title: "n8n (built into Dormouse)", Version: o.Version},
		&mcp.ServerOptions{
			Instructions: instructions,
			Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}}, // the list never changes
			SchemaCache:  o.Client.schemas,
		})
	for _, bind := range o.Client.tools {
		bind(s, a)
	}
	return s, nil
}

// toolTable holds the tools, each as a function that adds it to a server for one tenant's API (nil: none).
type toolTable []func(*mcp.Server, *api)

func newToolTable() toolTable {
	return toolTable{
		healthCheck(),
		listWorkflows(), getWorkflow(), createWorkflow(), updateWorkflow(),
		setActive(true), setActive(false),
		listExecutions(), getExecution(),
	}
}

// object is JSON that is passed on as n8n gave it.
type object = map[string]any

// define makes a tool of run. The tool and its schemas are made once and shared by all servers.
func define[In, Out any](t *mcp.Tool, tune func(in map[string]*jsonschema.Schema), run func(context.Context, *api, In) (Out, error)) func(*mcp.Server, *api) {
	in, err := jsonschema.For[In](nil)
	if err != nil {
		panic(fmt.Sprintf("tool %s: %v", t.Name, err)) // a mistake in this file, found by every test
	}
	if tune != nil {
		tune(in.Properties)
	}
	t.InputSchema = in
	return func(s *mcp.Server, a *api) {
		mcp.AddTool(s, t, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
			out, err := run(ctx, a, in)
			return nil, out, err
		})
	}
}

// The three kinds of tools, for clients that ask before they act: reads, adds and replaces.

func reads(title string) *mcp.ToolAnnotations {
	return &mcp.ToolAnnotations{Title: title, ReadOnlyHint: true, IdempotentHint: true, DestructiveHint: new(false), OpenWorldHint: new(true)}
}

func adds(title string, idempotent bool) *mcp.ToolAnnotations {
	return &mcp.ToolAnnotations{Title: title, IdempotentHint: idempotent, DestructiveHint: new(false), OpenWorldHint: new(true)}
}

func replaces(title string) *mcp.ToolAnnotations {
	return &mcp.ToolAnnotations{Title: title, IdempotentHint: true, DestructiveHint: new(true), OpenWorldHint: new(true)}
}

// The constraints that several inputs share.

func constrainID(s *jsonschema.Schema) { s.Pattern = `^[A-Za-z0-9_-]{1,64}$` }

func constrainPage(in map[string]*jsonschema.Schema) {
	in["limit"].Minimum, in["limit"].Maximum = new(1.0), new(250.0)
	in["cursor"].MaxLength = new(1024)
}

func constrainName(s *jsonschema.Schema) { s.MinLength, s.MaxLength = new(1), new(128) }
