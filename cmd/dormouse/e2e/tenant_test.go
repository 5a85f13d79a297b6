//go:build e2e

package e2e

import (
	"maps"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

// listWorkflows is a built-in tool whose answer names the tenant. n8n-mcp has one of the same name.
const listWorkflows = "n8n_list_workflows"

// tenant is one user of a stand-in n8n. Every answer with its workflows contains its marker.
type tenant struct {
	id, url, key, marker string
}

// startN8N starts a stand-in n8n that many tenants share, told apart by their keys alone.
func startN8N(t *testing.T) *n8ntest.Server {
	t.Helper()
	s := n8ntest.New()
	if err := s.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func addTenant(s *n8ntest.Server, id string) *tenant {
	n := &tenant{id: id, url: s.URL(), key: "key-of-" + id, marker: "Orders of " + id}
	s.AddTenant(n8ntest.Tenant{Name: n.id, Key: n.key})
	return n
}

// newTenant is a tenant with an n8n of its own.
func newTenant(t *testing.T, id string) *tenant {
	t.Helper()
	return addTenant(startN8N(t), id)
}

// headers are what the tenant's clients send with every request.
func (n *tenant) headers() map[string]string {
	return map[string]string{"x-n8n-url": n.url, "x-n8n-key": n.key, "x-instance-id": n.id}
}

func (n *tenant) with(name, value string) map[string]string {
	h := maps.Clone(n.headers())
	h[name] = value
	return h
}

func (n *tenant) without(name string) map[string]string {
	h := maps.Clone(n.headers())
	delete(h, name)
	return h
}
