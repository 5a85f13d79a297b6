package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The forms of sealed session IDs. They need neither a nonce nor a tag, because the ref is both: it is told
// beside them, names one session ID alone, and says whether what was opened is that ID. A million
// dormant sessions are 48 MB lighter for it.
const (
	sealedUUID = 2 // 16 bytes of a UUID in its usual text form
	sealedText = 3 // any other
)

const sessionIDInfo = "dormouse session ID key v1\x00"

// newIDCipher derives the cipher of session IDs: another key than the data key, for another mode.
func newIDCipher(t journal.TenantID, id journal.KeyID, key secret) cipher.Block {
	derived, err := hkdf.Key(sha256.New, key[:], nil, string(appendParts([]byte(sessionIDInfo), string(t[:]), string(id))), keySize)
	if err != nil {
		panic(err) // the length is right
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		panic(err) // the length is right
	}
	return block
}

// sealID returns version | ciphertext, or false if r is not the ref of plain.
func (k *dataKey) sealID(r journal.Ref, plain []byte) (journal.Sealed, bool) {
	if journal.SessionID(plain).Ref() != r {
		return nil, false
	}
	b := []byte{sealedText}
	if u, err := uuid.ParseBytes(plain); err == nil && u.String() == string(plain) {
		b = append([]byte{sealedUUID}, u[:]...)
	} else {
		b = append(b, plain...)
	}
	cipher.NewCTR(k.ids, r[:]).XORKeyStream(b[1:], b[1:])
	return b, true
}

// openID returns the session ID of that ref. It fails with journal.ErrWrongKey if it is not in there.
func (k *dataKey) openID(r journal.Ref, sealed journal.Sealed) ([]byte, error) {
	plain := make([]byte, len(sealed)-1)
	cipher.NewCTR(k.ids, r[:]).XORKeyStream(plain, sealed[1:])
	if sealed[0] == sealedUUID {
		u, err := uuid.FromBytes(plain)
		if err != nil {
			return nil, fmt.Errorf("%w: a UUID of %d bytes", journal.ErrMalformed, len(plain))
		}
		plain = []byte(u.String())
	}
	if journal.SessionID(plain).Ref() != r {
		return nil, journal.ErrWrongKey
	}
	return plain, nil
}
