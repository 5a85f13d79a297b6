package seal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The version bytes of sealed fields and wrapped keys; docs/format.md describes them.
const (
	sealedVersion  = 1
	wrappedVersion = 1
)

// dataKey is one of a tenant's data keys, ready for use. The key itself is not kept.
type dataKey struct {
	tenant      journal.TenantID
	id          journal.KeyID
	aead        cipher.AEAD
	ids         cipher.Block // of session IDs
	fingerprint journal.Fingerprint
}

func newDataKey(t journal.TenantID, id journal.KeyID, key secret) *dataKey {
	return &dataKey{tenant: t, id: id, aead: newAEAD(key), ids: newIDCipher(t, id, key), fingerprint: fingerprintOf(t, id, key)}
}

// newDataKeyID returns a random ID. A random one, because an erased ID must never come back, and because
// two replicas that make a tenant's first key at once, perhaps under different wrapping keys, must
// never make two keys of one name.
func newDataKeyID() journal.KeyID {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return journal.KeyID("d" + hex.EncodeToString(b[:]))
}

func fingerprintOf(t journal.TenantID, id journal.KeyID, key secret) (f journal.Fingerprint) {
	mac := hmac.New(sha256.New, key[:])
	mac.Write(appendParts([]byte("dormouse key fingerprint v1\x00"), string(t[:]), string(id)))
	copy(f[:], mac.Sum(nil))
	return f
}

// seal returns version | nonce | ciphertext and tag, or, of a session ID, what sealID does.
func (k *dataKey) seal(p journal.Purpose, r journal.Ref, plain []byte) journal.Sealed {
	if p == journal.PurposeSessionID {
		if sealed, ok := k.sealID(r, plain); ok {
			return sealed
		}
	}
	b := make([]byte, 1+nonceSize, 1+nonceSize+len(plain)+tagSize)
	b[0] = sealedVersion
	nonce := b[1:]
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(b, nonce, plain, k.bound(p, r))
}

func (k *dataKey) open(p journal.Purpose, r journal.Ref, sealed journal.Sealed) ([]byte, error) {
	if p == journal.PurposeSessionID && len(sealed) > 1 && (sealed[0] == sealedUUID || sealed[0] == sealedText) {
		return k.openID(r, sealed)
	}
	if len(sealed) < 1+nonceSize+tagSize || sealed[0] != sealedVersion {
		return nil, fmt.Errorf("%w: no sealed form of version %d", journal.ErrMalformed, sealedVersion)
	}
	plain, err := k.aead.Open(nil, sealed[1:1+nonceSize], sealed[1+nonceSize:], k.bound(p, r))
	if err != nil {
		return nil, journal.ErrWrongKey
	}
	return plain, nil
}

// bound is what a sealed form is tied to: it opens for this purpose, session, tenant and key alone.
func (k *dataKey) bound(p journal.Purpose, r journal.Ref) []byte {
	b := make([]byte, 0, 2+len(r)+len(k.tenant)+len(k.id))
	b = append(append(b, sealedVersion, byte(p)), r[:]...)
	return append(append(b, k.tenant[:]...), k.id...)
}

// wrapper wraps data keys under one key of the tenant ring.
type wrapper struct {
	id   journal.KeyID
	aead cipher.AEAD
}

// wrap returns version | nonce | ciphertext and tag.
func (w *wrapper) wrap(t journal.TenantID, id journal.KeyID, key secret) []byte {
	b := make([]byte, 1+nonceSize, 1+nonceSize+keySize+tagSize)
	b[0] = wrappedVersion
	nonce := b[1:]
	_, _ = rand.Read(nonce) // never fails
	return w.aead.Seal(b, nonce, key[:], w.bound(t, id))
}

func (w *wrapper) unwrap(k WrappedKey) (key secret, err error) {
	if len(k.Wrapped) != 1+nonceSize+keySize+tagSize || k.Wrapped[0] != wrappedVersion {
		return key, fmt.Errorf("%w: no wrapped key of version %d", journal.ErrMalformed, wrappedVersion)
	}
	plain, err := w.aead.Open(nil, k.Wrapped[1:1+nonceSize], k.Wrapped[1+nonceSize:], w.bound(k.Tenant, k.Key))
	if err != nil {
		return key, fmt.Errorf("%w: %s", journal.ErrWrongKey, w.id)
	}
	return secret(plain), nil
}

func (w *wrapper) bound(t journal.TenantID, id journal.KeyID) []byte {
	return appendParts([]byte("dormouse wrapped key v1\x00"), string(t[:]), string(id), string(w.id))
}
