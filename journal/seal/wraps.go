package seal

import (
	"context"

	"github.com/dormouse-mcp/dormouse/journal"
)

// wraps is the tenant ring, ready for use. It never changes.
type wraps struct {
	byID    map[journal.KeyID]*wrapper
	current *wrapper // nil in a reading keyring
}

func wrapsOf(k *Keyring) wraps {
	w := wraps{byID: map[journal.KeyID]*wrapper{}}
	for i, key := range k.tenant.keys {
		w.byID[key.id] = &wrapper{id: key.id, aead: newAEAD(key.key)}
		if i == k.tenant.current {
			w.current = w.byID[key.id]
		}
	}
	return w
}

func (w wraps) unwrap(k WrappedKey) (secret, error) {
	by, ok := w.byID[k.Wrap]
	if !ok {
		return secret{}, &RingKeyError{Ring: RingTenant, ID: k.Wrap}
	}
	return by.unwrap(k)
}

// gates let one call at a time work on a tenant's stored keys, so that a crowd loads or makes them once.
// Tenants share a few gates; waiting ends with the waiter's context.
type gates []chan struct{}

func newGates() gates {
	g := make(gates, 64)
	for i := range g {
		g[i] = make(chan struct{}, 1)
	}
	return g
}

func (g gates) enter(ctx context.Context, t journal.TenantID) (leave func(), err error) {
	gate := g[int(t[0])%len(g)]
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
