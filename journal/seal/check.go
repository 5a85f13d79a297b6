package seal

import (
	"context"
	"fmt"
	"iter"

	"github.com/dormouse-mcp/dormouse/journal"
)

// KeyUse is a data key as an event names it.
type KeyUse struct {
	Tenant      journal.TenantID
	Key         journal.KeyID
	Fingerprint journal.Fingerprint
}

// CheckAll is Check for many, in one pass over the store. It tells bad each use whose key is not as it must be,
// with the reason; a use that is named twice is told twice. An error of the store is returned and ends it.
func (v *Vault) CheckAll(ctx context.Context, uses iter.Seq[KeyUse], bad func(KeyUse, error)) error {
	v.mu.RLock()
	ring := v.wraps
	v.mu.RUnlock()
	all := map[journal.TenantID]*tenantPrints{}
	for k, err := range v.store.All(ctx) {
		if err != nil {
			return fmt.Errorf("tenants' keys: %w", err)
		}
		if all[k.Tenant] == nil {
			all[k.Tenant] = &tenantPrints{prints: map[journal.KeyID]journal.Fingerprint{}, broken: map[journal.KeyID]error{}}
		}
		all[k.Tenant].add(k, ring)
	}
	for u := range uses {
		switch err := all[u.Tenant].check(u); {
		case err == nil:
		case v.isErased(u.Tenant, u.Key):
			bad(u, journal.ErrKeyErased)
		default:
			bad(u, err)
		}
	}
	return nil
}

// tenantPrints is tenantKeys without ciphers.
type tenantPrints struct {
	prints map[journal.KeyID]journal.Fingerprint
	broken map[journal.KeyID]error
}

func (p *tenantPrints) add(k WrappedKey, ring wraps) {
	if _, ok := p.prints[k.Key]; ok {
		return
	}
	key, err := ring.unwrap(k)
	if err != nil {
		p.broken[k.Key] = err
		return
	}
	p.prints[k.Key] = fingerprintOf(k.Tenant, k.Key, key)
}

func (p *tenantPrints) check(u KeyUse) error {
	if p == nil {
		return journal.ErrKeyMissing
	}
	finger, ok := p.prints[u.Key]
	switch {
	case ok && finger != u.Fingerprint:
		return fmt.Errorf("%w: its fingerprint is another", journal.ErrWrongKey)
	case ok:
		return nil
	case p.broken[u.Key] != nil:
		return p.broken[u.Key]
	default:
		return journal.ErrKeyMissing
	}
}
