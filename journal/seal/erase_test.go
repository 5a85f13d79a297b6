package seal_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// manyKeys is a store for very many tenants: memory.Keys looks through all keys of all tenants.
type manyKeys struct {
	mu   sync.Mutex
	keys map[journal.TenantID]*memory.Keys
}

func (s *manyKeys) of(t journal.TenantID) *memory.Keys {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[journal.TenantID]*memory.Keys{}
	}
	if s.keys[t] == nil {
		s.keys[t] = &memory.Keys{}
	}
	return s.keys[t]
}

func (s *manyKeys) Create(ctx context.Context, name seal.KeyName, wrapped []byte) error {
	return s.of(name.Tenant).Create(ctx, name, wrapped)
}

func (s *manyKeys) Load(ctx context.Context, t journal.TenantID) ([]seal.WrappedKey, error) {
	return s.of(t).Load(ctx, t)
}

func (s *manyKeys) Delete(ctx context.Context, name seal.KeyName) error {
	return s.of(name.Tenant).Delete(ctx, name)
}

func (s *manyKeys) All(context.Context) iter.Seq2[seal.WrappedKey, error] { panic("not needed") }

func TestErase(t *testing.T) {
	k, s, other := seal.GenerateKeyring(), &store{}, journal.TenantID{2}
	v := seal.NewVault(k, s)
	id, blob := sealed(t, v, acme, "x")
	otherID, otherBlob := sealed(t, v, other, "y")
	keys, err := v.Keys(t.Context(), acme)
	if err != nil || !slices.Equal(keys, []journal.KeyID{id}) {
		t.Fatal(keys, err)
	}
	erased, err := v.Erase(t.Context(), acme)
	if err != nil || !slices.Equal(erased, []journal.KeyID{id}) {
		t.Fatal(erased, err)
	}
	if _, err := v.Open(t.Context(), acme, id, journal.PurposeContext, journal.Ref{5}, blob); !errors.Is(err, journal.ErrKeyErased) {
		t.Fatal(err)
	}
	if _, err := v.Seal(t.Context(), acme, id, journal.PurposeContext, journal.Ref{5}, nil); !errors.Is(err, journal.ErrKeyErased) {
		t.Fatal(err)
	}
	if erased, err := v.Erase(t.Context(), acme); err != nil || erased != nil {
		t.Fatal(erased, err)
	}
	opens(t, v, other, otherID, otherBlob, "y")
	if again, _ := key(t, v, acme); again == id {
		t.Fatal("an erased ID came back")
	}
	// A vault that was not there knows no better than that it is missing, unless the journal says more.
	late := seal.NewVault(k, s)
	if _, err := late.Open(t.Context(), acme, id, journal.PurposeContext, journal.Ref{5}, blob); !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatal(err)
	}
}

// A key that another replica made after the event of the erasure was written must live.
func TestEraseOnlyWhatTheEventNames(t *testing.T) {
	k, s := seal.GenerateKeyring(), &store{}
	v, replica := seal.NewVault(k, s), seal.NewVault(k, s)
	id, _ := key(t, v, acme)
	keys, err := v.Keys(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	replica.Forget(acme, id) // it folded the event first
	later, blob := sealed(t, replica, acme, "x")
	if later == id {
		t.Fatal("an erased key is used")
	}
	if erased, err := v.Erase(t.Context(), acme, keys...); err != nil || !slices.Equal(erased, keys) {
		t.Fatal(erased, err)
	}
	opens(t, v, acme, later, blob, "x")
	if now, _ := key(t, v, acme); now != later {
		t.Fatal(now)
	}
}

func TestEraseGoesOnAfterAnError(t *testing.T) {
	s := &failing{fail: 1}
	k := seal.GenerateKeyring()
	v := seal.NewVault(k, s)
	id, _ := key(t, v, acme)
	v.Use(rotated(t, k, seal.RingTenant))
	if _, err := v.Rewrap(t.Context()); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	s.fail = 2 // the second of two wraps
	if _, err := v.Erase(t.Context(), acme, id); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if _, err := v.Seal(t.Context(), acme, id, journal.PurposeContext, journal.Ref{}, nil); !errors.Is(err, journal.ErrKeyErased) {
		t.Fatal(err)
	}
	if erased, err := v.Erase(t.Context(), acme, id); err != nil || !slices.Equal(erased, []journal.KeyID{id}) {
		t.Fatal(erased, err)
	}
	if left := s.stored(t); left != nil {
		t.Fatal(left)
	}
}

var errDisk = errors.New("disk")

// failing fails one Delete.
type failing struct {
	store

	fail int
}

func (s *failing) Delete(ctx context.Context, name seal.KeyName) error {
	if s.fail--; s.fail == 0 {
		return errDisk
	}
	return s.store.Delete(ctx, name)
}

func TestErasedByTheWordOfTheJournal(t *testing.T) {
	k, s := seal.GenerateKeyring(), &store{}
	id, _ := key(t, seal.NewVault(k, s), acme)
	next := rotated(t, k, seal.RingTenant)
	v := seal.NewVault(next, s)
	v.ConsultErased(func(_ journal.TenantID, k journal.KeyID) bool { return k == id })
	// Its wrap is still in the store: the erasure was interrupted. It must not be used.
	if now, _ := key(t, v, acme); now == id {
		t.Fatal("an erased key is used")
	}
	if _, err := v.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(s.stored(t), seal.KeyName{Tenant: acme, Key: id, Wrap: "t2"}) {
		t.Fatal("an erased key was wrapped anew")
	}
	if _, err := v.Seal(t.Context(), acme, id, journal.PurposeContext, journal.Ref{}, nil); !errors.Is(err, journal.ErrKeyErased) {
		t.Fatal(err)
	}
}

// An erasure is repeated at start: the key is refused even if nothing of it is left.
func TestEraseAgain(t *testing.T) {
	v := seal.NewVault(seal.GenerateKeyring(), &store{})
	if erased, err := v.Erase(t.Context(), acme, "d1"); err != nil || erased != nil {
		t.Fatal(erased, err)
	}
	if _, err := v.Seal(t.Context(), acme, "d1", journal.PurposeContext, journal.Ref{}, nil); !errors.Is(err, journal.ErrKeyErased) {
		t.Fatal(err)
	}
}

// Another replica erased a key that this one keeps ready: once the journal says so it seals nothing more, and
// is not kept.
func TestErasedByAnotherReplica(t *testing.T) {
	gone := map[journal.KeyID]bool{}
	v := seal.NewVault(seal.GenerateKeyring(), &store{})
	v.ConsultErased(func(_ journal.TenantID, k journal.KeyID) bool { return gone[k] })
	other := journal.TenantID{9}
	id, blob := sealed(t, v, acme, "x")
	otherID, otherBlob := sealed(t, v, other, "y")
	gone[id] = true
	if now, _ := key(t, v, acme); now == id {
		t.Fatal("an erased key is used")
	}
	gone[otherID] = true
	v.ForgetErased()
	for _, k := range []struct {
		tenant journal.TenantID
		id     journal.KeyID
		blob   journal.Sealed
	}{{acme, id, blob}, {other, otherID, otherBlob}} {
		if _, err := v.Open(t.Context(), k.tenant, k.id, journal.PurposeContext, journal.Ref{5}, k.blob); !errors.Is(err, journal.ErrKeyErased) {
			t.Fatal(err)
		}
	}
}
