package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
)

// ivSize is what the seed guide's crypto.randomBytes(16) gives; AES-GCM's usual nonce has 12 bytes.
const ivSize = 16

// EncryptText returns plain in the seed's text form, iv:authTag:ciphertext in base64, under AES-256-GCM. key has
// 32 bytes. Node's crypto, as in the seed guide, reads it.
func EncryptText(plain, key []byte) (string, error) {
	gcm, err := textCipher(key)
	if err != nil {
		return "", err
	}
	iv := make([]byte, ivSize)
	_, _ = rand.Read(iv) // never fails: it aborts the process instead
	sealed := gcm.Seal(nil, iv, plain, nil)
	text, tag := sealed[:len(plain)], sealed[len(plain):]
	b64 := base64.StdEncoding.EncodeToString
	return b64(iv) + ":" + b64(tag) + ":" + b64(text), nil
}

// DecryptText reads what EncryptText, or the seed guide's code in Node, wrote. It fails with
// journal.ErrMalformed, or journal.ErrWrongKey if the key is another or the text was tampered with.
func DecryptText(text string, key []byte) ([]byte, error) {
	gcm, err := textCipher(key)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimSpace(text), ":")
	if len(parts) != 3 {
		return nil, fmt.Errorf("encrypted sessions: %w: want iv:authTag:ciphertext", journal.ErrMalformed)
	}
	var raw [3][]byte
	for i, p := range parts {
		if raw[i], err = base64.StdEncoding.DecodeString(p); err != nil {
			return nil, fmt.Errorf("encrypted sessions: %w: not base64", journal.ErrMalformed)
		}
	}
	if len(raw[0]) != ivSize || len(raw[1]) != gcm.Overhead() {
		return nil, fmt.Errorf("encrypted sessions: %w: want an iv and an authTag of 16 bytes", journal.ErrMalformed)
	}
	plain, err := gcm.Open(nil, raw[0], append(raw[2], raw[1]...), nil)
	if err != nil {
		return nil, fmt.Errorf("encrypted sessions: %w", journal.ErrWrongKey)
	}
	return plain, nil
}

func textCipher(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("key of %d bytes: %w: want 32", len(key), journal.ErrMalformed)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, ivSize)
}
