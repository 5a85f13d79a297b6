package seal_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

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
	for i := range tenants {
		if tenants[i].Since == 0 {
			t.Error("when it was stored is not known")
		}
		tenants[i].Since = 0
	}
	want := fmt.Sprintf("[{%s [{%s [t2]}] %s} {%s [{%s [t2]}] %s}]",
		acme, id, journal.Instant(0), journal.TenantID{2}, otherID, journal.Instant(0))
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
