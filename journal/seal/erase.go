package seal

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// TenantKeys tells which data keys a tenant has, and under which keys of the tenant ring each is wrapped.
type TenantKeys struct {
	Tenant journal.TenantID
	Keys   []KeyWraps      // in the order in which they were stored
	Since  journal.Instant // when the oldest of the wraps was stored
}

// KeyWraps is one data key and its wraps.
type KeyWraps struct {
	Key   journal.KeyID
	Wraps []journal.KeyID
}

func (k *TenantKeys) add(wrapped WrappedKey) {
	name := wrapped.KeyName
	if k.Since == 0 || wrapped.Stored < k.Since {
		k.Since = wrapped.Stored
	}
	i := slices.IndexFunc(k.Keys, func(w KeyWraps) bool { return w.Key == name.Key })
	if i < 0 {
		i = len(k.Keys)
		k.Keys = append(k.Keys, KeyWraps{Key: name.Key})
	}
	k.Keys[i].Wraps = append(k.Keys[i].Wraps, name.Wrap)
}

// Tenants returns the stored keys of all tenants, ordered by tenant. It needs no tenant ring.
func (v *Vault) Tenants(ctx context.Context) ([]TenantKeys, error) {
	all := map[journal.TenantID]*TenantKeys{}
	for k, err := range v.store.All(ctx) {
		if err != nil {
			return nil, fmt.Errorf("tenants' keys: %w", err)
		}
		if all[k.Tenant] == nil {
			all[k.Tenant] = &TenantKeys{Tenant: k.Tenant}
		}
		all[k.Tenant].add(k)
	}
	list := make([]TenantKeys, 0, len(all))
	for _, k := range all {
		list = append(list, *k)
	}
	slices.SortFunc(list, func(a, b TenantKeys) int { return bytes.Compare(a.Tenant[:], b.Tenant[:]) })
	return list, nil
}

// Keys returns the IDs of the tenant's stored data keys: what the event of an erasure must name.
func (v *Vault) Keys(ctx context.Context, t journal.TenantID) ([]journal.KeyID, error) {
	stored, err := v.store.Load(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("keys of tenant %s: %w", t, err)
	}
	var ids []journal.KeyID
	for _, k := range stored {
		if !slices.Contains(ids, k.Key) {
			ids = append(ids, k.Key)
		}
	}
	return ids, nil
}

// Erase deletes every wrap of the tenant's data keys, beyond recovery from the store, and returns the IDs
// of the keys that had any. Given keys it deletes those alone, else all. What they sealed is gone for ever.
//
// Append the event that names the keys (from Keys) first, then erase just these: a key that another replica
// makes meanwhile is in no such event, and must live. Repeat it at start, and after an error: what is
// gone already is no error. It needs no tenant ring.
func (v *Vault) Erase(ctx context.Context, t journal.TenantID, keys ...journal.KeyID) ([]journal.KeyID, error) {
	leave, err := v.gates.enter(ctx, t)
	if err != nil {
		return nil, err
	}
	defer leave()
	v.Forget(t, keys...)
	stored, err := v.store.Load(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("erase tenant %s: %w", t, err)
	}
	var erased []journal.KeyID
	for _, k := range stored {
		if len(keys) > 0 && !slices.Contains(keys, k.Key) {
			continue
		}
		v.Forget(t, k.Key)
		if err := v.store.Delete(ctx, k.KeyName); err != nil {
			return erased, fmt.Errorf("erase key %s of tenant %s: %w", k.Key, t, err)
		}
		if !slices.Contains(erased, k.Key) {
			erased = append(erased, k.Key)
		}
	}
	return erased, nil
}

// Forget makes the vault refuse these keys from now on, as erased. Call it when the fold takes in an
// erasure: another replica may have done it.
func (v *Vault) Forget(t journal.TenantID, keys ...journal.KeyID) {
	if len(keys) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range keys {
		v.erased[erasedKey{t, id}] = true
	}
	delete(v.tenants, t)
}

// ForgetErased is Forget for all keys that are kept ready and that the journal calls erased; see ConsultErased.
// Call it when an erasure was folded.
func (v *Vault) ForgetErased() {
	v.mu.RLock()
	ready := make([]erasedKey, 0, len(v.tenants))
	for t, loaded := range v.tenants {
		for id := range loaded.keys {
			ready = append(ready, erasedKey{t, id})
		}
	}
	v.mu.RUnlock()
	for _, k := range ready {
		if v.isErased(k.tenant, k.key) {
			v.Forget(k.tenant, k.key)
		}
	}
}
