package seal_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

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

// Where a tenant has two keys, the same one stays current wherever a rewrap breaks off.
func TestRewrapKeepsTheCurrentKey(t *testing.T) {
	for fail := range 4 {
		k, s := seal.GenerateKeyring(), &failing{}
		first, _ := key(t, seal.NewVault(k, s), acme)
		v := seal.NewVault(k, s)
		v.Forget(acme, first) // so that it makes another
		if second, _ := key(t, v, acme); second == first {
			t.Fatal(second)
		}
		next := rotated(t, k, seal.RingTenant)
		v = seal.NewVault(next, s)
		s.fail = fail
		if _, err := v.Rewrap(t.Context()); err != nil && !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		s.fail = 0
		for range 2 {
			if now, _ := key(t, seal.NewVault(next, s), acme); now != first {
				t.Fatalf("delete %d failed: %s is current, %s was", fail, now, first)
			}
			if _, err := v.Rewrap(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if left := s.stored(t); len(left) != 2 {
			t.Fatal(left)
		}
	}
}

func TestRewrap(t *testing.T) {
	k, s := seal.GenerateKeyring(), &store{}
	v := seal.NewVault(k, s)
	id, blob := sealed(t, v, acme, "x")
	otherID, otherBlob := sealed(t, v, journal.TenantID{2}, "y")
	next := rotated(t, k, seal.RingTenant)
	v.Use(next)
	for _, want := range []int{2, 0} {
		if n, err := v.Rewrap(t.Context()); err != nil || n != want {
			t.Fatal(n, err)
		}
	}
	// The older key of the ring is no longer needed.
	alone := keyring(t, withoutKey(next, "t1"))
	for _, v := range []*seal.Vault{v, seal.NewVault(alone, s)} {
		opens(t, v, acme, id, blob, "x")
		opens(t, v, journal.TenantID{2}, otherID, otherBlob, "y")
	}
	tenants, err := v.Tenants(t.Context())
	want := fmt.Sprintf("[{%s [{%s [t2]}]} {%s [{%s [t2]}]}]", acme, id, journal.TenantID{2}, otherID)
	if got := fmt.Sprint(tenants); err != nil || got != want {
		t.Fatalf("got %s, %v\nwant %s", got, err, want)
	}
}

func withoutKey(k *seal.Keyring, id string) (text string) {
	for line := range strings.SplitSeq(string(k.Text()), "\n") {
		if !strings.HasPrefix(line, "tenant "+id+" ") {
			text += line + "\n"
		}
	}
	return text
}

// Whatever is interrupted and repeated, on any of several replicas: what was sealed opens, unless its key
// was erased, and erased keys never come back into use.
func TestVaultsLaws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ring := seal.GenerateKeyring()
		s := &failing{}
		erased := map[journal.KeyID]bool{}
		said := func(_ journal.TenantID, id journal.KeyID) bool { return erased[id] }
		boot := func() *seal.Vault {
			v := seal.NewVault(ring, s)
			v.ConsultErased(said)
			return v
		}
		vaults := []*seal.Vault{boot(), boot(), boot()}
		type thing struct {
			id   journal.KeyID
			blob journal.Sealed
		}
		var things []thing
		vault := func(rt *rapid.T) *seal.Vault { return rapid.SampledFrom(vaults).Draw(rt, "vault") }
		rt.Repeat(map[string]func(*rapid.T){
			"seal": func(rt *rapid.T) {
				id, blob := sealed(t, vault(rt), acme, "x")
				if erased[id] {
					rt.Fatalf("sealed under erased %s", id)
				}
				things = append(things, thing{id, blob})
			},
			"rotate": func(*rapid.T) {
				ring = rotated(t, ring, seal.RingTenant)
				for _, v := range vaults {
					v.Use(ring)
				}
			},
			"rewrap": func(rt *rapid.T) {
				s.fail = rapid.IntRange(0, 3).Draw(rt, "fail")
				if _, err := vault(rt).Rewrap(t.Context()); err != nil && !errors.Is(err, errDisk) {
					rt.Fatal(err)
				}
				s.fail = 0
			},
			"erase": func(rt *rapid.T) {
				v := vault(rt)
				keys, err := v.Keys(t.Context(), acme)
				if err != nil || len(keys) == 0 {
					return
				}
				for _, id := range keys { // the event, as all replicas fold it
					erased[id] = true
				}
				for _, v := range vaults {
					v.Forget(acme, keys...)
				}
				s.fail = rapid.IntRange(0, 3).Draw(rt, "fail")
				if _, err := v.Erase(t.Context(), acme, keys...); err != nil && !errors.Is(err, errDisk) {
					rt.Fatal(err)
				}
				s.fail = 0
			},
			"restart": func(rt *rapid.T) {
				vaults[rapid.IntRange(0, 2).Draw(rt, "which")] = boot()
			},
			"": func(rt *rapid.T) {
				for _, th := range things {
					v := vault(rt)
					plain, err := v.Open(t.Context(), acme, th.id, journal.PurposeContext, journal.Ref{5}, th.blob)
					if erased[th.id] && !errors.Is(err, journal.ErrKeyErased) {
						rt.Fatalf("erased %s: %q, %v", th.id, plain, err)
					}
					if !erased[th.id] && (err != nil || string(plain) != "x") {
						rt.Fatalf("%s: %q, %v", th.id, plain, err)
					}
				}
			},
		})
	})
}
