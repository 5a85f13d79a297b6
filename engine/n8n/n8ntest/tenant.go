package n8ntest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tenant is what one API key sees.
type tenant struct {
	name   string
	server *Server

	mu         sync.Mutex
	key        string // guarded by server.mu
	made       int    // workflows made so far
	workflows  []*workflow
	executions []*execution // oldest first
}

// AddTenant adds a tenant with two workflows, one of them active, and three executions. One of the same
// name is replaced.
func (s *Server) AddTenant(t Tenant) {
	n := &tenant{name: t.Name, server: s, key: t.Key}
	n.mu.Lock()
	defer n.mu.Unlock()
	nightly := n.add(workflowBody{
		Name:        "Nightly import of " + t.Name,
		Nodes:       []json.RawMessage{node("Schedule", "n8n-nodes-base.scheduleTrigger"), node("Fetch", "n8n-nodes-base.httpRequest")},
		Connections: json.RawMessage(`{"Schedule":{"main":[[{"node":"Fetch","type":"main","index":0}]]}}`),
	})
	nightly.Active = true
	n.add(workflowBody{
		Name:        "Orders of " + t.Name,
		Nodes:       []json.RawMessage{node("Webhook", "n8n-nodes-base.webhook")},
		Connections: json.RawMessage(`{}`),
	})
	for _, status := range []string{"success", "error", "success"} {
		n.run(nightly, status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[t.Name] = n
}

// SetKey gives a tenant another API key; the old one is refused from now on. It fails with ErrNoTenant.
func (s *Server) SetKey(name, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	if t == nil {
		return fmt.Errorf("%w: %s", ErrNoTenant, name)
	}
	t.key = key
	return nil
}

// AddExecution records that a workflow ran and ended with a status ("success", "error" and so on), and
// returns the execution's ID. It fails with ErrNoTenant, also when the workflow is not the tenant's.
func (s *Server) AddExecution(tenant, workflowID, status string) (string, error) {
	s.mu.Lock()
	t := s.tenants[tenant]
	s.mu.Unlock()
	if t == nil {
		return "", fmt.Errorf("%w: %s", ErrNoTenant, tenant)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.find(workflowID)
	if w == nil {
		return "", fmt.Errorf("%w with workflow %s: %s", ErrNoTenant, workflowID, tenant)
	}
	return t.run(w, status).ID, nil
}

// Owner returns the name of the tenant that a workflow's ID belongs to, even after the workflow was
// deleted; empty if there is none.
func (s *Server) Owner(workflowID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.tenants {
		if len(workflowID) == idDigits && strings.HasPrefix(workflowID, idPrefix(name)) {
			return name
		}
	}
	return ""
}

func (s *Server) byKey(key string) *tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tenants {
		if t.key == key {
			return t
		}
	}
	return nil
}

func (s *Server) nextExecution() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.execution++
	return strconv.Itoa(s.execution)
}

// idDigits is the length of a workflow's ID, in n8n's own alphabet of letters and digits.
const idDigits = 16

// idPrefix returns the first ten digits of all workflow IDs of a tenant.
func idPrefix(name string) string {
	sum := sha256.Sum256([]byte(name))
	text := strings.Repeat("0", 10) + new(big.Int).SetBytes(sum[:8]).Text(62)
	return text[len(text)-10:]
}

func (t *tenant) newID() string {
	t.made++
	return fmt.Sprintf("%s%06d", idPrefix(t.name), t.made)
}

func node(name, kind string) json.RawMessage {
	data, _ := json.Marshal(map[string]any{ // cannot fail: strings and numbers
		"id": strings.ToLower(name), "name": name, "type": kind, "typeVersion": 1, "position": [2]int{0, 0}, "parameters": map[string]any{},
	})
	return data
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func notFound(w http.ResponseWriter) { fail(w, http.StatusNotFound, "Not Found") }
