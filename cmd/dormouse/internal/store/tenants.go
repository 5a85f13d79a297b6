package store

import (
	"cmp"
	"context"
	"slices"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// Tenants lists the tenants that have sessions or stored data keys, or were erased, by label. The labels of those
// without sessions are looked up in the history, which is read as far as that takes.
func (s *Store) Tenants(ctx context.Context) ([]control.Tenant, error) {
	c := census{byID: map[journal.TenantID]*control.Tenant{}, erased: map[journal.TenantID]map[journal.KeyID]bool{}}
	stored, err := s.Vault.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	s.Follower.View(c.fold)
	for i := range stored {
		c.stored(&stored[i])
	}
	if err := c.faults(ctx, s); err != nil {
		return nil, err
	}
	if err := c.labels(ctx, s); err != nil {
		return nil, err
	}
	return c.list(), nil
}

// census collects what is known of tenants.
type census struct {
	byID   map[journal.TenantID]*control.Tenant
	erased map[journal.TenantID]map[journal.KeyID]bool
}

func (c *census) of(id journal.TenantID) *control.Tenant {
	t := c.byID[id]
	if t == nil {
		t = &control.Tenant{Tenant: id.String(), Keys: []control.TenantKey{}}
		c.byID[id] = t
	}
	return t
}

func (c *census) fold(st *replay.State) {
	for x := range st.All() {
		t := c.of(x.Tenant)
		t.Sessions++
		t.Label = cmp.Or(t.Label, x.Label)
	}
	for id, key := range st.ErasedKeys() {
		c.of(id)
		if c.erased[id] == nil {
			c.erased[id] = map[journal.KeyID]bool{}
		}
		c.erased[id][key] = true
	}
}

func (c *census) stored(k *seal.TenantKeys) {
	t := c.of(k.Tenant)
	t.Since = k.Since.Time()
	for _, key := range k.Keys {
		out := control.TenantKey{ID: string(key.Key), Erased: c.erased[k.Tenant][key.Key]}
		for _, w := range key.Wraps {
			out.Wraps = append(out.Wraps, string(w))
		}
		t.Keys = append(t.Keys, out)
	}
}

func (c *census) faults(ctx context.Context, s *Store) error {
	orphans, err := s.CheckKeys(ctx)
	for i := range orphans {
		t := c.of(orphans[i].Tenant)
		t.Faults = append(t.Faults, orphans[i].String())
	}
	return err
}

// labels looks for the labels that no session tells.
func (c *census) labels(ctx context.Context, s *Store) error {
	missing := map[journal.TenantID]bool{}
	for id, t := range c.byID {
		if t.Label == "" && t.Sessions == 0 {
			missing[id] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	q := audit.Query{Kinds: []journal.Kind{journal.KindCreated}, Tolerant: true}
	return s.History(ctx, q, func(en audit.Entry) error {
		x := en.Event.Created
		if x == nil || !missing[x.Tenant] {
			return nil
		}
		c.of(x.Tenant).Label = x.Label
		delete(missing, x.Tenant)
		if len(missing) == 0 {
			return journal.ErrStop
		}
		return nil
	})
}

func (c *census) list() []control.Tenant {
	list := make([]control.Tenant, 0, len(c.byID))
	for id, t := range c.byID {
		t.State = stateOf(t, len(c.erased[id]) > 0)
		list = append(list, *t)
	}
	slices.SortFunc(list, func(a, b control.Tenant) int {
		return cmp.Or(cmp.Compare(a.Label, b.Label), cmp.Compare(a.Tenant, b.Tenant))
	})
	return list
}

func stateOf(t *control.Tenant, erased bool) string {
	left := slices.ContainsFunc(t.Keys, func(k control.TenantKey) bool { return k.Erased })
	switch {
	case len(t.Faults) > 0:
		return control.TenantDamaged
	case left:
		return control.TenantErasing
	case t.Sessions > 0:
		return control.TenantActive
	case len(t.Keys) > 0 || !erased:
		return control.TenantIdle
	default:
		return control.TenantErased
	}
}
