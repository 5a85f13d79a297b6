package seal

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// maxTenants bounds how many tenants' keys a vault keeps ready, about one kilobyte each.
const maxTenants = 16 << 10

// Vault seals and opens what belongs to one tenant, under the tenant's own data key. Data keys are made
// when a tenant is first seen and kept in a KeyStore, wrapped by the tenant ring. Safe for concurrent use.
//
// A tenant may have several data keys: two replicas that make its first one at once both succeed. All of
// them open; new things are sealed under the one that was stored first, so that replicas agree.
type Vault struct {
	store KeyStore
	gates gates

	mu      sync.RWMutex
	wraps   wraps
	tenants map[journal.TenantID]*tenantKeys
	erased  map[erasedKey]bool
	consult func(journal.TenantID, journal.KeyID) bool
}

type erasedKey struct {
	tenant journal.TenantID
	key    journal.KeyID
}

// tenantKeys is what a vault has loaded of one tenant. It never changes.
type tenantKeys struct {
	order  []journal.KeyID // as they were stored
	keys   map[journal.KeyID]*dataKey
	broken map[journal.KeyID]error // why a stored key does not unwrap
}

// NewVault returns a vault over the wrapped keys in s. With a reading keyring every call that needs a data
// key fails with journal.ErrKeyMissing.
func NewVault(k *Keyring, s KeyStore) *Vault {
	return &Vault{
		store: s, gates: newGates(), wraps: wrapsOf(k),
		tenants: map[journal.TenantID]*tenantKeys{}, erased: map[erasedKey]bool{},
	}
}

// Use goes over to another keyring. Call Rewrap then, once every replica has it.
func (v *Vault) Use(k *Keyring) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wraps = wrapsOf(k)
	clear(v.tenants)
}

// ConsultErased makes the vault ask fn which keys are erased by the word of the journal, so that what is gone
// on purpose is told from damage. fn must not call the vault. Call it before the vault is used.
func (v *Vault) ConsultErased(fn func(journal.TenantID, journal.KeyID) bool) { v.consult = fn }

// Key returns the tenant's current data key. If there is none it makes one, which is durable when Key
// returns. Errors: journal.ErrKeyMissing or journal.ErrWrongKey if there are keys and none of them
// unwraps, and those of the store.
func (v *Vault) Key(ctx context.Context, t journal.TenantID) (journal.KeyID, journal.Fingerprint, error) {
	if k := v.cached(t).current(); k != nil {
		if !v.isErased(t, k.id) {
			return k.id, k.fingerprint, nil
		}
		v.Forget(t, k.id) // another replica erased it
	}
	k, err := v.currentKey(ctx, t)
	if err != nil {
		return "", journal.Fingerprint{}, fmt.Errorf("data key of tenant %s: %w", t, err)
	}
	return k.id, k.fingerprint, nil
}

func (v *Vault) currentKey(ctx context.Context, t journal.TenantID) (*dataKey, error) {
	leave, err := v.gates.enter(ctx, t)
	if err != nil {
		return nil, err
	}
	defer leave()
	if k := v.cached(t).current(); k != nil {
		return k, nil // somebody else loaded it while this call waited
	}
	loaded, err := v.load(ctx, t)
	if err != nil {
		return nil, err
	}
	if k := loaded.current(); k != nil {
		return k, nil
	}
	for id, err := range loaded.broken {
		return nil, fmt.Errorf("key %s: %w", id, err) // a new key would hide that the keyring is the wrong one
	}
	if err := v.create(ctx, t); err != nil {
		return nil, err
	}
	// Of replicas that made one at once, all take the one that was stored first.
	if loaded, err = v.load(ctx, t); err != nil {
		return nil, err
	}
	if k := loaded.current(); k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w: it was made and is gone", journal.ErrKeyMissing)
}

func (v *Vault) create(ctx context.Context, t journal.TenantID) error {
	v.mu.RLock()
	w := v.wraps.current
	v.mu.RUnlock()
	if w == nil {
		return fmt.Errorf("%w: the keyring has no tenant key", journal.ErrKeyMissing)
	}
	id := newDataKeyID()
	return v.store.Create(ctx, KeyName{Tenant: t, Key: id, Wrap: w.id}, w.wrap(t, id, newSecret()))
}

// Seal seals plain for one purpose and session under the tenant's data key id. Errors: journal.ErrKeyMissing,
// journal.ErrKeyErased, journal.ErrWrongKey (the stored key does not unwrap), and those of the store.
func (v *Vault) Seal(ctx context.Context, t journal.TenantID, id journal.KeyID, p journal.Purpose, r journal.Ref, plain []byte) (journal.Sealed, error) {
	k, err := v.key(ctx, t, id)
	if err != nil {
		return nil, err
	}
	return k.seal(p, r, plain), nil
}

// Open returns what Seal sealed for the same tenant, key, purpose and session. Errors: those of Seal;
// journal.ErrWrongKey also if sealed was tampered with or belongs elsewhere; journal.ErrMalformed.
func (v *Vault) Open(ctx context.Context, t journal.TenantID, id journal.KeyID, p journal.Purpose, r journal.Ref, sealed journal.Sealed) ([]byte, error) {
	k, err := v.key(ctx, t, id)
	if err != nil {
		return nil, err
	}
	plain, err := k.open(p, r, sealed)
	if err != nil {
		return nil, fmt.Errorf("session %s, key %s of tenant %s: %w", r, id, t, err)
	}
	return plain, nil
}

// Check returns nil if the tenant's data key exists, unwraps and has the fingerprint, else
// journal.ErrKeyErased, journal.ErrKeyMissing or journal.ErrWrongKey, or an error of the store.
func (v *Vault) Check(ctx context.Context, t journal.TenantID, id journal.KeyID, f journal.Fingerprint) error {
	k, err := v.key(ctx, t, id)
	if err == nil && k.fingerprint != f {
		return fmt.Errorf("key %s of tenant %s: %w: its fingerprint is another", id, t, journal.ErrWrongKey)
	}
	return err
}

// key returns a data key, loaded if need be.
func (v *Vault) key(ctx context.Context, t journal.TenantID, id journal.KeyID) (*dataKey, error) {
	if k := v.cached(t).find(id); k != nil {
		return k, nil
	}
	k, err := v.loadKey(ctx, t, id)
	if err != nil {
		return nil, fmt.Errorf("key %s of tenant %s: %w", id, t, err)
	}
	return k, nil
}

func (v *Vault) loadKey(ctx context.Context, t journal.TenantID, id journal.KeyID) (*dataKey, error) {
	if v.isErased(t, id) {
		return nil, journal.ErrKeyErased
	}
	leave, err := v.gates.enter(ctx, t)
	if err != nil {
		return nil, err
	}
	defer leave()
	if k := v.cached(t).find(id); k != nil {
		return k, nil
	}
	loaded, err := v.load(ctx, t)
	if err != nil {
		return nil, err
	}
	switch k := loaded.find(id); {
	case k != nil:
		return k, nil
	case v.isErased(t, id):
		return nil, journal.ErrKeyErased
	case loaded.broken[id] != nil:
		return nil, loaded.broken[id]
	default:
		return nil, fmt.Errorf("%w: it is not in the key store", journal.ErrKeyMissing)
	}
}

// load reads a tenant's keys and keeps them ready. The tenant's gate is held.
func (v *Vault) load(ctx context.Context, t journal.TenantID) (*tenantKeys, error) {
	stored, err := v.store.Load(ctx, t)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	wraps := v.wraps
	v.mu.RUnlock()
	loaded := &tenantKeys{keys: map[journal.KeyID]*dataKey{}, broken: map[journal.KeyID]error{}}
	for _, k := range stored {
		if !v.isErased(t, k.Key) {
			loaded.add(k, wraps)
		}
	}
	v.keep(t, loaded, wraps)
	return loaded, nil
}

func (v *Vault) keep(t journal.TenantID, loaded *tenantKeys, wraps wraps) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wraps.current != wraps.current {
		return // Use came in between
	}
	for id := range loaded.keys {
		if v.erased[erasedKey{t, id}] {
			return // Forget came in between
		}
	}
	for old := range v.tenants {
		if len(v.tenants) < maxTenants {
			break
		}
		delete(v.tenants, old)
	}
	v.tenants[t] = loaded
}

func (v *Vault) cached(t journal.TenantID) *tenantKeys {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.tenants[t]
}

func (v *Vault) isErased(t journal.TenantID, id journal.KeyID) bool {
	v.mu.RLock()
	gone := v.erased[erasedKey{t, id}]
	v.mu.RUnlock()
	return gone || v.consult != nil && v.consult(t, id)
}

// add takes a stored copy of a key, unless another copy of it has been unwrapped already.
func (l *tenantKeys) add(k WrappedKey, wraps wraps) {
	if l.keys[k.Key] != nil {
		return
	}
	key, err := wraps.unwrap(k)
	if err != nil {
		l.broken[k.Key] = errors.Join(l.broken[k.Key], err)
		return
	}
	delete(l.broken, k.Key)
	l.keys[k.Key] = newDataKey(k.Tenant, k.Key, key)
	l.order = append(l.order, k.Key)
}

func (l *tenantKeys) find(id journal.KeyID) *dataKey {
	if l == nil {
		return nil
	}
	return l.keys[id]
}

func (l *tenantKeys) current() *dataKey {
	if l == nil || len(l.order) == 0 {
		return nil
	}
	return l.keys[l.order[0]]
}
