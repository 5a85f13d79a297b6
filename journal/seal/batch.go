package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The framing of a stored message behind its header; docs/format.md has a worked example.
const (
	nonceSize = 12
	tagSize   = 16

	// headerRoom is more than a header takes, its key ID and ref filter aside.
	headerRoom = 256

	batchInfo = "dormouse batch key v1"

	// maxSpare is how many messages' memory a sealer keeps. A committer has one in flight.
	maxSpare = 2
)

func newAEAD(key secret) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the length is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return aead
}

// batchAEAD derives the cipher of one writer, so that no key of the ring ever seals too often.
func batchAEAD(ringKey secret, w journal.WriterID) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, ringKey[:], w[:], batchInfo, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of writer %s: %w", w, err)
	}
	return newAEAD(secret(key)), nil
}

// BatchSealer turns the batches of one writer into stored messages. It implements commit.Encoder.
// Safe for concurrent use.
type BatchSealer struct {
	writer journal.WriterID

	mu     sync.Mutex
	key    journal.KeyID
	aead   cipher.AEAD
	packer packer
	spare  [][]byte // messages' memory, to be used again
}

// NewBatchSealer returns a sealer under the keyring's current journal key. Its error is
// journal.ErrKeyMissing.
func NewBatchSealer(k *Keyring, w journal.WriterID) (*BatchSealer, error) {
	p, err := newPacker()
	if err != nil {
		return nil, err
	}
	s := &BatchSealer{writer: w, packer: p}
	return s, s.Use(k)
}

// Use goes over to another keyring's current journal key from the next batch on. If it has none,
// nothing changes and the error is journal.ErrKeyMissing.
func (s *BatchSealer) Use(k *Keyring) error {
	current, ok := k.journal.sealing()
	if !ok {
		return fmt.Errorf("seal batches: %w: no journal key", journal.ErrKeyMissing)
	}
	aead, err := batchAEAD(current.key, s.writer)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.aead = current.id, aead
	return nil
}

// Encode returns the message to store: a slice that nobody changes before it is given to Recycle. It sets the header's
// Key, First, Last, Count, Refs and Alike; the rest is the caller's. It fails with journal.ErrMalformed or
// journal.ErrTooLarge as journal.AppendEvents does.
func (s *BatchSealer) Encode(h *journal.Header, events []journal.Event) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Writer != s.writer || h.Number == 0 || len(events) == 0 {
		return nil, fmt.Errorf("seal batch %d of writer %s, %d events: %w", h.Number, h.Writer, len(events), journal.ErrMalformed)
	}
	h.Key, h.Count, h.Refs = s.key, uint32(len(events)), journal.MakeRefFilter(events)
	h.First, h.Last = span(events)
	meta, err := s.packer.pack(h.First, events)
	if err != nil {
		return nil, fmt.Errorf("seal batch %d: %w", h.Number, err)
	}
	h.Alike = meta.alike
	msg := s.room(headerRoom + len(h.Key) + len(h.Refs) + nonceSize + binary.MaxVarintLen64 + len(meta.data) + meta.sealed + tagSize)
	msg = journal.AppendHeader(msg, h)
	at := len(msg)
	msg = msg[:at+nonceSize]
	_, _ = rand.Read(msg[at:])
	msg = binary.AppendUvarint(msg, meta.length())
	msg = append(msg, meta.data...)
	msg = journal.AppendSealed(msg, events)
	header, nonce, plain := msg[:at], msg[at:at+nonceSize], msg[at+nonceSize:]
	return s.aead.Seal(msg[:at+nonceSize], nonce, plain, header), nil
}

// Recycle gives back a message that Encode returned, and that nobody will read any more. It need not be called.
func (s *BatchSealer) Recycle(msg []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spare) < maxSpare {
		s.spare = append(s.spare, msg[:0])
	}
}

// room returns an empty slice of at least that capacity. The lock is held.
func (s *BatchSealer) room(n int) []byte {
	if last := len(s.spare) - 1; last >= 0 {
		msg := s.spare[last]
		s.spare = s.spare[:last]
		if cap(msg) >= n {
			return msg
		}
	}
	return make([]byte, 0, n+n/8) // a bit more: the next batch may be larger
}

func span(events []journal.Event) (first, last journal.Instant) {
	first, last = events[0].At, events[0].At
	for i := range events {
		first, last = min(first, events[i].At), max(last, events[i].At)
	}
	return first, last
}
