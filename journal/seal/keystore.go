package seal

import (
	"context"
	"errors"
	"iter"

	"github.com/dormouse-mcp/dormouse/journal"
)

// ErrKeyExists says that a wrapped key of that name is stored already. Nothing was changed: load it.
var ErrKeyExists = errors.New("wrapped key exists")

// KeyName names one wrapped copy of a tenant's data key. Any two copies of one data key differ in Wrap.
type KeyName struct {
	Tenant journal.TenantID
	Key    journal.KeyID // the tenant's data key
	Wrap   journal.KeyID // the tenant-ring key that wraps it
}

// WrappedKey is a data key as it is stored. Wrapped is not changed by anybody.
type WrappedKey struct {
	KeyName

	Wrapped []byte
	Stored  journal.Instant // when, by the store's clock
}

// KeyStore keeps the wrapped data keys of tenants: small, durable before a call returns, erasable.
// journal/jetstream and journal/memory implement it. Safe for concurrent use.
type KeyStore interface {
	// Create stores a wrapped key that must not be there yet, else it fails with ErrKeyExists.
	// After any other error it may or may not be stored: repeat it with the same bytes.
	Create(ctx context.Context, name KeyName, wrapped []byte) error

	// Load returns the tenant's wrapped keys in the order in which they were created, by the word of
	// the store's leader: what Create stored before the call is in it. A tenant without keys has none,
	// which is no error.
	Load(ctx context.Context, t journal.TenantID) ([]WrappedKey, error)

	// All yields every tenant's wrapped keys in the order in which they were created. The first error
	// ends it.
	All(ctx context.Context) iter.Seq2[WrappedKey, error]

	// Delete removes the stored bytes: afterwards no file of the store holds them. A key that is not there is no error.
	Delete(ctx context.Context, name KeyName) error
}
