package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

// maxOpened bounds how many writers' derived keys a BatchOpener keeps, about one kilobyte each.
const maxOpened = 1024

// BatchOpener opens stored messages of any writer. It implements replay.Opener. Safe for concurrent use.
type BatchOpener struct {
	zstd *zstd.Decoder

	mu   sync.RWMutex
	ring *Keyring
	aead map[batchKey]cipher.AEAD
}

type batchKey struct {
	key    journal.KeyID
	writer journal.WriterID
}

// NewBatchOpener returns an opener that knows the keyring's journal keys; a reading keyring will do.
func NewBatchOpener(k *Keyring) *BatchOpener {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(journal.MaxPayload))
	if err != nil {
		panic(err) // the options are right
	}
	return &BatchOpener{zstd: dec, ring: k, aead: map[batchKey]cipher.AEAD{}}
}

// Use goes over to another keyring.
func (o *BatchOpener) Use(k *Keyring) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ring = k
	clear(o.aead)
}

// Open returns the batch in a stored message. The events share memory with one another; see
// journal.DecodeEvents. The header's Refs are a part of data.
//
// Errors: journal.ErrMalformed (no batch of a version that this release reads), journal.ErrKeyMissing (the
// keyring lacks the key that it names), journal.ErrWrongKey (another key of that name, or tampering).
func (o *BatchOpener) Open(data []byte) (*journal.Batch, error) { return o.OpenIn(nil, data) }

// OpenIn is Open, and makes the batch in an arena.
func (o *BatchOpener) OpenIn(a *journal.Arena, data []byte) (*journal.Batch, error) {
	h, at, err := journal.ParseHeader(data)
	if err != nil {
		return nil, err
	}
	b, err := o.open(a, &h, data, at)
	if err != nil {
		return nil, fmt.Errorf("open batch %d of writer %s: %w", h.Number, h.Writer, err)
	}
	return b, nil
}

func (o *BatchOpener) open(a *journal.Arena, h *journal.Header, data []byte, at int) (*journal.Batch, error) {
	size := len(data) - at - nonceSize - tagSize
	if size < 1 || size > journal.MaxPayload+binary.MaxVarintLen64 {
		return nil, fmt.Errorf("%w: %d bytes sealed", journal.ErrMalformed, size)
	}
	aead, err := o.cipher(batchKey{h.Key, h.Writer})
	if err != nil {
		return nil, err
	}
	nonce, sealed := data[at:at+nonceSize], data[at+nonceSize:]
	plain, err := aead.Open(a.Bytes(size), nonce, sealed, data[:at])
	if err != nil {
		return nil, fmt.Errorf("%w: key %s", journal.ErrWrongKey, h.Key)
	}
	meta, rest, err := o.unpack(a, plain)
	if err != nil {
		return nil, err
	}
	return a.DecodeEvents(h, meta, rest)
}

// unpack splits the plaintext in metadata and sealed bytes.
func (o *BatchOpener) unpack(a *journal.Arena, plain []byte) (meta, sealed []byte, err error) {
	size, n := binary.Uvarint(plain)
	if n <= 0 || size>>1 > uint64(len(plain)-n) {
		return nil, nil, fmt.Errorf("%w: length of the metadata", journal.ErrMalformed)
	}
	meta, sealed = plain[n:n+int(size>>1)], plain[n+int(size>>1):]
	if size&1 == 0 {
		return meta, sealed, nil
	}
	meta, err = o.zstd.DecodeAll(meta, a.Bytes(unpackedSize(meta)))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: metadata: %w", journal.ErrMalformed, err)
	}
	return meta, sealed, nil
}

// unpackedSize returns how large compressed metadata says it is, or zero. It is a hint and may lie.
func unpackedSize(packed []byte) int {
	var h zstd.Header
	if h.Decode(packed) != nil || !h.HasFCS || h.FrameContentSize > journal.MaxPayload {
		return 0
	}
	return int(h.FrameContentSize)
}

func (o *BatchOpener) cipher(k batchKey) (cipher.AEAD, error) {
	o.mu.RLock()
	aead, ring := o.aead[k], o.ring
	o.mu.RUnlock()
	if aead != nil {
		return aead, nil
	}
	key, ok := ring.journal.find(k.key)
	if !ok {
		return nil, &RingKeyError{Ring: RingJournal, ID: k.key}
	}
	aead, err := batchAEAD(key, k.writer)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ring != ring {
		return aead, nil // Use came in between
	}
	if len(o.aead) >= maxOpened {
		clear(o.aead)
	}
	o.aead[k] = aead
	return aead, nil
}
