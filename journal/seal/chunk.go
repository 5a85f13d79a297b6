package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

const chunkInfo = "dormouse snapshot key v1"

// maxChunkKeys bounds how many snapshots' derived keys are kept.
const maxChunkKeys = 16

// Chunks seals and opens the chunks of snapshots, each snapshot's under a key of its own: HKDF-SHA256 of a key of the
// journal ring, with the snapshot's ID as salt. A reading keyring will do. Safe for concurrent use.
type Chunks struct {
	mu   sync.Mutex
	ring *Keyring
	aead map[chunkKey]cipher.AEAD
}

type chunkKey struct {
	key journal.KeyID
	id  journal.SnapshotID
}

// NewChunks returns a sealer and opener with the keyring's journal keys.
func NewChunks(k *Keyring) *Chunks { return &Chunks{ring: k, aead: map[chunkKey]cipher.AEAD{}} }

// Use goes over to another keyring.
func (c *Chunks) Use(k *Keyring) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring = k
	clear(c.aead)
}

// Key names the journal key under which new snapshots are sealed; empty if there is none.
func (c *Chunks) Key() journal.KeyID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.Current(RingJournal)
}

// Seal appends a random nonce, the ciphertext of plain and its tag to dst. bound is what else the chunk opens with
// only. plain and the free part of dst must not overlap. It fails with journal.ErrKeyMissing.
func (c *Chunks) Seal(key journal.KeyID, id journal.SnapshotID, dst, bound, plain []byte) ([]byte, error) {
	aead, err := c.cipher(key, id)
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return aead.Seal(append(dst, nonce[:]...), nonce[:], plain, bound), nil
}

// Open returns what was sealed. It fails with journal.ErrKeyMissing, journal.ErrWrongKey (another key of that name,
// another place in another snapshot, or tampering) and journal.ErrMalformed.
func (c *Chunks) Open(key journal.KeyID, id journal.SnapshotID, bound, sealed []byte) ([]byte, error) {
	if len(sealed) < nonceSize+tagSize {
		return nil, fmt.Errorf("%w: %d bytes sealed", journal.ErrMalformed, len(sealed))
	}
	aead, err := c.cipher(key, id)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], bound)
	if err != nil {
		return nil, fmt.Errorf("%w: key %s", journal.ErrWrongKey, key)
	}
	return plain, nil
}

func (c *Chunks) cipher(key journal.KeyID, id journal.SnapshotID) (cipher.AEAD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := chunkKey{key, id}
	if aead := c.aead[name]; aead != nil {
		return aead, nil
	}
	secretKey, ok := c.ring.journal.find(key)
	if !ok {
		return nil, &RingKeyError{Ring: RingJournal, ID: key}
	}
	derived, err := hkdf.Key(sha256.New, secretKey[:], id[:], chunkInfo, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of snapshot %s: %w", id, err)
	}
	if len(c.aead) >= maxChunkKeys {
		clear(c.aead)
	}
	c.aead[name] = newAEAD(secret(derived))
	return c.aead[name], nil
}
