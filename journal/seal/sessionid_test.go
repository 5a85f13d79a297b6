package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func TestSealedSessionIDs(t *testing.T) {
	v := seal.NewVault(seal.GenerateKeyring(), new(store))
	key, _, err := v.Key(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		id   string
		size int
	}{
		{"1b671a64-40d5-491e-99b0-da01ff1f3341", 17},
		{"1B671A64-40D5-491E-99B0-DA01FF1F3341", 37},
		{"instance-acme-1a2b3c4d-1b671a64-40d5-491e-99b0-da01ff1f3341", 60},
		{"a-session-with-a-name-of-its-own", 33},
	} {
		id := journal.SessionID(row.id)
		seals := func(tenant journal.TenantID, ref journal.Ref) journal.Sealed {
			k, _, err := v.Key(t.Context(), tenant)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := v.Seal(t.Context(), tenant, k, journal.PurposeSessionID, ref, []byte(row.id))
			if err != nil {
				t.Fatal(err)
			}
			return sealed
		}
		sealed := seals(acme, id.Ref())
		open := func(ref journal.Ref, sealed journal.Sealed) ([]byte, error) {
			return v.Open(t.Context(), acme, key, journal.PurposeSessionID, ref, sealed)
		}
		if got, err := open(id.Ref(), sealed); err != nil || string(got) != row.id || len(sealed) != row.size {
			t.Errorf("%s: %d bytes open as %q, %v", row.id, len(sealed), got, err)
		}
		other := bytes.Clone(sealed)
		other[len(other)-1] ^= 1
		for what, err := range map[string]error{
			"changed":              second(open(id.Ref(), other)),
			"cut off":              second(open(id.Ref(), sealed[:len(sealed)-1])),
			"of another session":   second(open(journal.Ref{1}, sealed)),
			"of another tenant":    second(open(id.Ref(), seals(journal.TenantID{2}, id.Ref()))),
			"of the other version": second(open(id.Ref(), append([]byte{sealed[0] ^ 1}, sealed[1:]...))),
			"empty":                second(open(id.Ref(), nil)),
		} {
			if !errors.Is(err, journal.ErrWrongKey) && !errors.Is(err, journal.ErrMalformed) {
				t.Errorf("%s, %s: %v", row.id, what, err)
			}
		}
		// Under a ref that is not the ID's own, the form of all other fields.
		if got, err := open(journal.Ref{7}, seals(acme, journal.Ref{7})); err != nil || string(got) != row.id {
			t.Errorf("%s under another ref: %q, %v", row.id, got, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// docs/format.md, read once more by hand.
func TestSealedSessionIDAsDescribed(t *testing.T) {
	p := formatPage(t)
	ref, tenant := p.hex(t, "ref"), p.hex(t, "tenant")
	const id = "1b671a64-40d5-491e-99b0-da01ff1f3341"
	k := seal.NewDataKey(journal.TenantID(tenant), "d6cfdb00849d7ebc6", [32]byte{9})
	sealed := seal.SealField(k, journal.PurposeSessionID, journal.Ref(ref), []byte(id))
	info := "dormouse session ID key v1\x00" + string(lp(string(tenant), "d6cfdb00849d7ebc6"))
	secret := [32]byte{9}
	key, err := hkdf.Key(sha256.New, secret[:], nil, info, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, 16)
	cipher.NewCTR(block, ref).XORKeyStream(plain, sealed[1:])
	if want := []byte("\x1b\x67\x1a\x64\x40\xd5\x49\x1e\x99\xb0\xda\x01\xff\x1f\x33\x41"); sealed[0] != 2 || !bytes.Equal(plain, want) {
		t.Errorf("%x holds %x", sealed, plain)
	}
}
