package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Rewrap wraps every data key under the tenant ring's current key and deletes the older wraps, so that the
// ring's older keys can be retired. It returns how many data keys it wrapped anew. A key's older wraps go only
// after the new one was read back and opened. It may be interrupted, repeated, and run on several
// replicas at once; every replica must have the current key before.
//
// Errors: journal.ErrKeyMissing or journal.ErrWrongKey if a key does not unwrap (the others are done
// nevertheless), and those of the store.
func (v *Vault) Rewrap(ctx context.Context) (int, error) {
	tenants, err := v.Tenants(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	var errs []error
	for _, t := range tenants {
		done, err := v.rewrapTenant(ctx, t.Tenant)
		n += done
		if err != nil {
			errs = append(errs, fmt.Errorf("rewrap tenant %s: %w", t.Tenant, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return n, errors.Join(errs...)
}

func (v *Vault) rewrapTenant(ctx context.Context, t journal.TenantID) (int, error) {
	leave, err := v.gates.enter(ctx, t)
	if err != nil {
		return 0, err
	}
	defer leave()
	v.mu.RLock()
	ring := v.wraps
	v.mu.RUnlock()
	if ring.current == nil {
		return 0, fmt.Errorf("%w: the keyring has no tenant key", journal.ErrKeyMissing)
	}
	stored, err := v.store.Load(ctx, t)
	if err != nil {
		return 0, err
	}
	n, err := v.addWraps(ctx, stored, ring)
	return n, errors.Join(err, v.dropWraps(ctx, t, ring))
}

// addWraps stores each key's missing wrap, in the order of the keys, which decides which one is current.
func (v *Vault) addWraps(ctx context.Context, stored []WrappedKey, ring wraps) (n int, err error) {
	done := map[journal.KeyID]bool{}
	for _, k := range stored {
		done[k.Key] = done[k.Key] || k.Wrap == ring.current.id
	}
	var errs []error
	for _, k := range stored {
		if done[k.Key] || v.isErased(k.Tenant, k.Key) {
			continue
		}
		key, err := ring.unwrap(k)
		if err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", k.Key, err))
			continue
		}
		name := KeyName{Tenant: k.Tenant, Key: k.Key, Wrap: ring.current.id}
		err = v.store.Create(ctx, name, ring.current.wrap(k.Tenant, k.Key, key))
		if err != nil && !errors.Is(err, ErrKeyExists) {
			return n, errors.Join(append(errs, err)...)
		}
		done[k.Key] = true
		n++
	}
	return n, errors.Join(errs...)
}

// dropWraps deletes the older wraps of keys whose new wrap is read back and holds the same key. The newest goes
// first, so that the order of the keys stays at every step.
func (v *Vault) dropWraps(ctx context.Context, t journal.TenantID, ring wraps) error {
	stored, err := v.store.Load(ctx, t)
	if err != nil {
		return err
	}
	renewed := map[journal.KeyID]secret{}
	for _, k := range stored {
		if key, err := ring.unwrap(k); err == nil && k.Wrap == ring.current.id {
			renewed[k.Key] = key
		}
	}
	for _, k := range slices.Backward(stored) {
		fresh, ok := renewed[k.Key]
		if !ok || k.Wrap == ring.current.id {
			continue
		}
		if old, err := ring.unwrap(k); err == nil && old != fresh {
			return fmt.Errorf("key %s: %w: its wraps hold different keys", k.Key, journal.ErrWrongKey)
		}
		if err := v.store.Delete(ctx, k.KeyName); err != nil {
			return err
		}
	}
	return nil
}
