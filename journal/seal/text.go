package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
)

const textIVSize = 16

func textAEAD(key [keySize]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, textIVSize)
}

// SealText returns the encrypted text form of an export, "iv:authTag:ciphertext": AES-256-GCM with a
// random IV of 16 bytes, each part in standard base64. Node's crypto reads it (aes-256-gcm, setAuthTag).
func SealText(key [keySize]byte, plain []byte) (string, error) {
	aead, err := textAEAD(key)
	if err != nil {
		return "", fmt.Errorf("seal text: %w", err)
	}
	var iv [textIVSize]byte
	_, _ = rand.Read(iv[:]) // never fails
	sealed := aead.Seal(nil, iv[:], plain, nil)
	ciphertext, tag := sealed[:len(plain)], sealed[len(plain):]
	b64 := base64.StdEncoding.EncodeToString
	return b64(iv[:]) + ":" + b64(tag) + ":" + b64(ciphertext), nil
}

// OpenText returns what SealText, or Node, sealed. It fails with journal.ErrMalformed if the text has another form,
// white space included, and with journal.ErrWrongKey if the key is another one or the text was tampered with.
func OpenText(key [keySize]byte, text string) ([]byte, error) {
	parts := strings.SplitN(text, ":", 4)
	if len(parts) != 3 {
		return nil, fmt.Errorf("encrypted text: %w: want iv:authTag:ciphertext", journal.ErrMalformed)
	}
	iv, err := textPart(parts[0], textIVSize, "IV")
	if err != nil {
		return nil, err
	}
	tag, err := textPart(parts[1], tagSize, "authTag")
	if err != nil {
		return nil, err
	}
	ciphertext, err := textPart(parts[2], -1, "ciphertext")
	if err != nil {
		return nil, err
	}
	aead, err := textAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("encrypted text: %w", err)
	}
	plain, err := aead.Open(nil, iv, append(ciphertext, tag...), nil)
	if err != nil {
		return nil, fmt.Errorf("encrypted text: %w", journal.ErrWrongKey)
	}
	return plain, nil
}

// textPart decodes one part, of that many bytes unless size is negative.
func textPart(s string, size int, what string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	// The decoder skips line ends, which would make two texts of one.
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("encrypted text: %w: %s is not standard base64", journal.ErrMalformed, what)
	}
	if size >= 0 && len(raw) != size {
		return nil, fmt.Errorf("encrypted text: %w: %s has %d bytes, want %d", journal.ErrMalformed, what, len(raw), size)
	}
	return raw, nil
}
