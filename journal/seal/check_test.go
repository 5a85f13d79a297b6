package seal_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func TestVaultCheck(t *testing.T) {
	k, s := seal.GenerateKeyring(), &store{}
	id, f := key(t, seal.NewVault(k, s), acme)
	gone := journal.KeyID("dgone")
	v := seal.NewVault(k, s)
	v.ConsultErased(func(t journal.TenantID, id journal.KeyID) bool { return t == acme && id == gone })
	uses := []seal.KeyUse{
		{Tenant: acme, Key: id, Fingerprint: f},
		{Tenant: acme, Key: id, Fingerprint: journal.Fingerprint{1}},
		{Tenant: acme, Key: "d1", Fingerprint: f},
		{Tenant: journal.TenantID{2}, Key: id, Fingerprint: f},
		{Tenant: acme, Key: gone, Fingerprint: f},
	}
	want := []error{nil, journal.ErrWrongKey, journal.ErrKeyMissing, journal.ErrKeyMissing, journal.ErrKeyErased}
	for i, u := range uses {
		if err := v.Check(t.Context(), u.Tenant, u.Key, u.Fingerprint); !errors.Is(err, want[i]) {
			t.Errorf("%+v: %v, want %v", u, err, want[i])
		}
	}
	var bad []seal.KeyUse
	err := v.CheckAll(t.Context(), slices.Values(uses), func(u seal.KeyUse, err error) {
		bad = append(bad, u)
		if !errors.Is(err, want[slices.Index(uses, u)]) {
			t.Errorf("%+v: %v", u, err)
		}
	})
	if err != nil || !slices.Equal(bad, uses[1:]) {
		t.Fatalf("%+v, %v", bad, err)
	}
	s.SetDown(true)
	if err := v.CheckAll(t.Context(), slices.Values(uses), nil); !errors.Is(err, journal.ErrUnavailable) {
		t.Fatal(err)
	}
}

// Many tenants do not grow the vault without end, and those that fell out are loaded again.
func TestVaultOfManyTenants(t *testing.T) {
	k, s := seal.GenerateKeyring(), &manyKeys{}
	v := seal.NewVault(k, s)
	id, blob := sealed(t, v, acme, "x")
	for i := range 20000 {
		key(t, v, journal.TenantID{2, byte(i), byte(i >> 8)})
	}
	if n := seal.CachedTenants(v); n > 16<<10 {
		t.Fatalf("%d tenants are kept", n)
	}
	opens(t, v, acme, id, blob, "x")
}

func TestVaultStoreDown(t *testing.T) {
	s := &store{}
	v := seal.NewVault(seal.GenerateKeyring(), s)
	s.SetDown(true)
	if _, _, err := v.Key(t.Context(), acme); !errors.Is(err, journal.ErrUnavailable) {
		t.Fatal(err)
	}
	s.SetDown(false)
	id, blob := sealed(t, v, acme, "x")
	s.SetDown(true)
	opens(t, v, acme, id, blob, "x") // loaded keys stay usable
	if _, err := v.Open(t.Context(), acme, "d9", journal.PurposeContext, journal.Ref{5}, blob); !errors.Is(err, journal.ErrUnavailable) {
		t.Fatal(err)
	}
}
