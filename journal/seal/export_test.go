package seal

// OpenedWriters says how many derived keys an opener keeps.
func OpenedWriters(o *BatchOpener) int { return len(o.aead) }

// CachedTenants says how many tenants' keys a vault keeps ready.
func CachedTenants(v *Vault) int { return len(v.tenants) }
