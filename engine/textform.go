package engine

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dormouse-mcp/dormouse/journal"
)

// ivSize is what the seed guide's crypto.randomBytes(16) gives; AES-GCM's usual nonce has 12 bytes.
const ivSize = 16

// EncryptText returns plain in the seed's text form, iv:authTag:ciphertext in base64, under AES-256-GCM. key has
// 32 bytes. Node's crypto, as in the seed guide, reads it.
func EncryptText(plain, key []byte) (string, error) {
	var b strings.Builder
	err := WriteEncrypted(&b, bytes.Clone(plain), key)
	return b.String(), err
}

// WriteEncrypted writes to w what EncryptText returns. It overwrites plain, so that there is no second copy.
func WriteEncrypted(w io.Writer, plain, key []byte) error {
	gcm, err := textCipher(key)
	if err != nil {
		return err
	}
	iv := make([]byte, ivSize)
	_, _ = rand.Read(iv) // never fails: it aborts the process instead
	n := len(plain)
	sealed := gcm.Seal(slices.Grow(plain, gcm.Overhead())[:0], iv, plain, nil)
	b64 := base64.StdEncoding.EncodeToString
	if _, err := io.WriteString(w, b64(iv)+":"+b64(sealed[n:])+":"); err != nil {
		return err
	}
	text := base64.NewEncoder(base64.StdEncoding, w)
	if _, err := text.Write(sealed[:n]); err != nil {
		return err
	}
	return text.Close()
}

// DecryptText reads what EncryptText, or the seed guide's code in Node, wrote. It fails with
// journal.ErrMalformed, or journal.ErrWrongKey if the key is another or the text was tampered with.
func DecryptText(text string, key []byte) ([]byte, error) {
	return ReadEncrypted(strings.NewReader(strings.TrimSpace(text)), key)
}

// ReadEncrypted is DecryptText for a reader, which it reads to its end. Line breaks are of no account.
func ReadEncrypted(r io.Reader, key []byte) ([]byte, error) {
	gcm, err := textCipher(key)
	if err != nil {
		return nil, err
	}
	head := make([]byte, textHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("encrypted sessions: %w: too short", journal.ErrMalformed)
	}
	iv, tag, ok := parseHead(head)
	if !ok {
		return nil, fmt.Errorf("encrypted sessions: %w: want iv:authTag:ciphertext, iv and authTag of 16 bytes in base64", journal.ErrMalformed)
	}
	sealed, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, r))
	if _, corrupt := errors.AsType[base64.CorruptInputError](err); corrupt || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("encrypted sessions: %w: cut off, or not base64", journal.ErrMalformed)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypted sessions: %w", err)
	}
	sealed = append(sealed, tag...)
	plain, err := gcm.Open(sealed[:0], iv, sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypted sessions: %w", journal.ErrWrongKey)
	}
	return plain, nil
}

// textHead is the length of "iv:authTag:", both of 16 bytes in base64.
const textHead = 2 * (24 + 1)

// IsEncryptedText reports whether a text that begins with head may be one that EncryptText wrote.
func IsEncryptedText(head []byte) bool {
	if len(head) < textHead {
		return false
	}
	_, _, ok := parseHead(head[:textHead])
	return ok
}

func parseHead(head []byte) (iv, tag []byte, ok bool) {
	if head[24] != ':' || head[49] != ':' {
		return nil, nil, false
	}
	iv, err1 := base64.StdEncoding.DecodeString(string(head[:24]))
	tag, err2 := base64.StdEncoding.DecodeString(string(head[25:49]))
	return iv, tag, err1 == nil && err2 == nil && len(iv) == ivSize && len(tag) == ivSize
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
