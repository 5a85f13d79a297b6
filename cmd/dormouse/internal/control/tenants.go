package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The states of a tenant.
const (
	TenantActive  = "active"  // it has sessions
	TenantIdle    = "idle"    // it has a data key and no session
	TenantErased  = "erased"  // it was erased, and has not come back
	TenantErasing = "erasing" // the journal says that it is erased, but wrapped keys are left: the erasure was interrupted
	TenantDamaged = "damaged" // sessions need a data key that is not as it must be
)

// Tenant is what may be told of a tenant.
type Tenant struct {
	Tenant   string      `json:"tenant"`
	Label    string      `json:"label,omitempty"`
	State    string      `json:"state"`
	Sessions int         `json:"sessions"`
	Keys     []TenantKey `json:"keys"`
	Since    time.Time   `json:"since,omitzero"`   // when the oldest of its wrapped keys was stored
	Faults   []string    `json:"faults,omitempty"` // of its data keys
}

// TenantKey is a stored data key.
type TenantKey struct {
	ID     string   `json:"id"`
	Wraps  []string `json:"wraps"` // the keys of the tenant ring that wrap it
	Erased bool     `json:"erased,omitempty"`
}

// Erased is what came of an erasure.
type Erased struct {
	Tenant   string   `json:"tenant"`
	Keys     []string `json:"keys"`     // the data keys that the journal now calls erased, by this erasure
	Deleted  int      `json:"deleted"`  // data keys whose wraps were deleted
	Sessions int      `json:"sessions"` // that this closed
}

// Tenants lists all tenants that have or had data keys or sessions, by label.
func (c *Client) Tenants(ctx context.Context) (t []Tenant, err error) {
	return t, c.get(ctx, "/v1/tenants", &t)
}

// Tenant finds one tenant by its ID, which may be abbreviated, or its label.
func (c *Client) Tenant(ctx context.Context, text string) (t Tenant, err error) {
	return t, c.get(ctx, "/v1/tenants/"+url.PathEscape(text), &t)
}

// EraseTenant erases the tenant of that full ID.
func (c *Client) EraseTenant(ctx context.Context, id, who string) (e Erased, err error) {
	return e, c.post(ctx, "/v1/tenants/"+url.PathEscape(id)+"/erase?"+url.Values{"who": {who}}.Encode(), &e)
}

func (b *Backend) tenants(w http.ResponseWriter, r *http.Request) error {
	list, err := b.Tenants(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (b *Backend) tenant(w http.ResponseWriter, r *http.Request) error {
	list, err := b.Tenants(r.Context())
	if err != nil {
		return err
	}
	t, err := oneTenant(list, r.PathValue("tenant"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, t)
	return nil
}

// oneTenant finds the tenant whose label is text or whose ID begins with it.
func oneTenant(list []Tenant, text string) (*Tenant, error) {
	text = strings.TrimSpace(text)
	prefix := strings.ToLower(text)
	abbreviates := len(prefix) >= minAbbreviation && strings.Trim(prefix, "0123456789abcdef") == ""
	var found []*Tenant
	for i := range list {
		t := &list[i]
		if text != "" && t.Label == text || abbreviates && strings.HasPrefix(t.Tenant, prefix) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &problem{http.StatusNotFound, fmt.Sprintf("no tenant %q: want a label, or 4 to 32 digits of an ID, as in `dormouse tenants list`", text)}
	}
	var ids []string
	for _, t := range found {
		ids = append(ids, t.Tenant)
	}
	return nil, &problem{http.StatusConflict, fmt.Sprintf("%q is ambiguous: %s; name one by its ID", text, strings.Join(ids, ", "))}
}

func (b *Backend) erase(w http.ResponseWriter, r *http.Request) error {
	id, err := journal.ParseTenantID(r.PathValue("tenant"))
	if err != nil {
		return &problem{http.StatusBadRequest, err.Error()}
	}
	out, err := b.EraseTenant(r.Context(), id, r.FormValue("who"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}
