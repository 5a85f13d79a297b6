package seal

import "github.com/dormouse-mcp/dormouse/journal"

// OpenedWriters says how many derived keys an opener keeps.
func OpenedWriters(o *BatchOpener) int { return len(o.aead) }

// CachedTenants says how many tenants' keys a vault keeps ready.
func CachedTenants(v *Vault) int { return len(v.tenants) }

// DataKey is one of a tenant's data keys.
type DataKey = dataKey

// NewDataKey makes one of a secret.
func NewDataKey(t journal.TenantID, id journal.KeyID, key [32]byte) *DataKey {
	return newDataKey(t, id, secret(key))
}

// SealField seals a field.
func SealField(k *DataKey, p journal.Purpose, r journal.Ref, plain []byte) journal.Sealed {
	return k.seal(p, r, plain)
}
