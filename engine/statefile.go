package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The snapshot form of an export: a magic text, a salt, then frames of some thousand sessions in columns, each
// compressed and sealed by itself. docs/format.md describes every byte.
const (
	stateMagic  = "dormouse sessions\n\x01"
	stateSalt   = 16
	stateInfo   = "dormouse session file v1"
	stateFrame  = 1 << 20  // bytes of columns at which a frame ends
	maxStateRaw = 64 << 20 // bytes of columns that a reader takes for one frame
	maxSealed   = maxStateRaw + 1<<20
	maxRows     = 1 << 20 // sessions in a frame
	lastFrame   = 1       // the last byte of the last frame's nonce
	nonceBytes  = 12
	frameLength = 4 // of the length of a frame
)

// IsStateFile reports whether what begins with head may be what a StateWriter wrote.
func IsStateFile(head []byte) bool {
	return len(head) >= len(stateMagic) && string(head[:len(stateMagic)-1]) == stateMagic[:len(stateMagic)-1]
}

// stateSealer seals the frames of one file, or opens them.
type stateSealer struct {
	aead  cipher.AEAD
	head  []byte
	frame uint64
}

// newStateSealer derives the key of the file. key has 32 bytes.
func newStateSealer(key, head []byte) (*stateSealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("key of %d bytes: %w: want 32", len(key), journal.ErrMalformed)
	}
	derived, err := hkdf.Key(sha256.New, key, head[len(head)-stateSalt:], stateInfo, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &stateSealer{aead: aead, head: head}, err
}

// nonce is never used twice: each file has a key of its own, and each frame its number.
func (s *stateSealer) nonce(last bool) []byte {
	n := make([]byte, nonceBytes)
	binary.BigEndian.PutUint64(n, s.frame)
	s.frame++
	if last {
		n[nonceBytes-1] = lastFrame
	}
	return n
}

// StateWriter writes sessions to a file in the snapshot form, at about what cannot be compressed of them. Only one
// frame of them is in memory. Not safe for concurrent use.
type StateWriter struct {
	w       io.Writer
	seal    *stateSealer
	zstd    *zstd.Encoder
	columns stateColumns
	out     []byte
	err     error
}

// NewStateWriter begins a file under the key, of 32 bytes.
func NewStateWriter(w io.Writer, key []byte) (*StateWriter, error) {
	head := make([]byte, len(stateMagic)+stateSalt)
	copy(head, stateMagic)
	_, _ = rand.Read(head[len(stateMagic):]) // never fails: it aborts the process instead
	seal, err := newStateSealer(key, head)
	if err != nil {
		return nil, err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	x := &StateWriter{w: w, seal: seal, zstd: enc}
	_, x.err = w.Write(head)
	return x, x.err
}

// Write adds a session. It fails with journal.ErrMalformed if its context has no JSON.
func (x *StateWriter) Write(s *SessionState) error {
	if err := checkExtra(s.Context.Extra); err != nil {
		return fmt.Errorf("session file: %w", err)
	}
	if m := s.Context.Metadata; len(m) > 0 && !json.Valid(m) {
		return fmt.Errorf("session file: %w: metadata that are no JSON", journal.ErrMalformed)
	}
	x.columns.add(s)
	if x.err == nil && x.columns.bytes() >= stateFrame {
		x.flush(false)
	}
	return x.err
}

// Close ends the file; it does not close the writer below. A file that was not closed is refused by readers.
func (x *StateWriter) Close() error {
	if x.err == nil {
		x.flush(true)
	}
	return errors.Join(x.err, x.zstd.Close())
}

func (x *StateWriter) flush(last bool) {
	c := &x.columns
	plain := appendSized(nil, x.zstd.EncodeAll(c.append(nil), nil))
	plain = append(plain, c.uuids...)
	x.out = append(x.out[:0], make([]byte, frameLength)...)
	x.out = x.seal.aead.Seal(x.out, x.seal.nonce(last), plain, x.seal.head)
	binary.BigEndian.PutUint32(x.out, uint32(len(x.out)-frameLength))
	clear(plain)
	c.reset()
	_, x.err = x.w.Write(x.out)
}
