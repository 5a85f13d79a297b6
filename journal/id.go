package journal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
)

// SessionID is what a client holds and sends as Mcp-Session-Id. Who has it can speak for the session,
// so it is never logged, stored in plaintext or shown: formatting one yields its Ref. Use [SessionID.Reveal]
// in the few places that must send it.
type SessionID string

// NewSessionID mints a random version 4 UUID.
func NewSessionID() SessionID { return SessionID(uuid.NewString()) }

// Reveal returns the secret itself.
func (id SessionID) Reveal() string { return string(id) }

// Ref returns the name under which the session may be spoken of.
func (id SessionID) Ref() Ref {
	h := sha256.New()
	h.Write([]byte("dormouse session ref v1\x00"))
	h.Write([]byte(id))
	var sum [sha256.Size]byte
	var ref Ref
	copy(ref[:], h.Sum(sum[:0]))
	return ref
}

// String returns the Ref's text, so that a formatted SessionID leaks nothing.
func (id SessionID) String() string { return id.Ref().String() }

// GoString is String: %#v leaks nothing either.
func (id SessionID) GoString() string { return "journal.SessionID(ref " + id.Ref().String() + ")" }

// bytes16 is the shape that all 16-byte names share.
type bytes16 [16]byte

func (b bytes16) String() string { return hex.EncodeToString(b[:]) }

func parse16(what, s string) (b bytes16, err error) {
	if len(s) != hex.EncodedLen(len(b)) {
		return b, fmt.Errorf("%s %q: %w: want %d hexadecimal digits", what, clip(s), ErrMalformed, 2*len(b))
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return b, fmt.Errorf("%s %q: %w: want hexadecimal digits", what, clip(s), ErrMalformed)
	}
	return b, nil
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

func random16() (b bytes16) {
	// crypto/rand.Read never returns an error: it aborts the process instead.
	_, _ = rand.Read(b[:])
	return b
}

// Ref names a session outside memory: 16 bytes derived from the SessionID by SHA-256. It tells nothing
// about the ID. The zero Ref names no session; events for the record carry it.
type Ref bytes16

// String returns 32 hexadecimal digits.
func (r Ref) String() string { return bytes16(r).String() }

// IsZero reports whether r names no session.
func (r Ref) IsZero() bool { return r == Ref{} }

// ParseRef reads what String wrote. It fails with ErrMalformed.
func ParseRef(s string) (Ref, error) {
	b, err := parse16("session ref", s)
	return Ref(b), err
}

// WriterID names one boot of one replica. Every boot is a new writer with a chain of its own.
type WriterID bytes16

// NewWriterID returns a random WriterID.
func NewWriterID() WriterID { return WriterID(random16()) }

// String returns 32 hexadecimal digits, fit for a NATS subject token.
func (w WriterID) String() string { return bytes16(w).String() }

// ParseWriterID reads what String wrote. It fails with ErrMalformed.
func ParseWriterID(s string) (WriterID, error) {
	b, err := parse16("writer", s)
	return WriterID(b), err
}

// ID names one journal, from the creation of its stream on. Batches carry it, so that a batch
// of another journal is never taken for one's own.
type ID bytes16

// NewID returns a random ID.
func NewID() ID { return ID(random16()) }

// String returns 32 hexadecimal digits.
func (id ID) String() string { return bytes16(id).String() }

// ParseID reads what String wrote. It fails with ErrMalformed.
func ParseID(s string) (ID, error) {
	b, err := parse16("journal", s)
	return ID(b), err
}

// TenantID names a tenant: a keyed hash of what identifies it (a token's tenant name, or the canonical
// URL and instance ID). It is safe to show. The zero TenantID is the tenant of callers without one.
type TenantID bytes16

// String returns 32 hexadecimal digits, fit for a NATS subject token.
func (t TenantID) String() string { return bytes16(t).String() }

// ParseTenantID reads what String wrote. It fails with ErrMalformed.
func ParseTenantID(s string) (TenantID, error) {
	b, err := parse16("tenant", s)
	return TenantID(b), err
}

// URLHash is the keyed hash of a tenant's canonical URL. The zero URLHash means that there is no URL.
type URLHash bytes16

// String returns 32 hexadecimal digits.
func (h URLHash) String() string { return bytes16(h).String() }

// ReplicaID names a running process by the name its operator gave it (its host name by default),
// unlike WriterID over restarts.
type ReplicaID string

// Principal is who calls: a token's name, a JWT's issuer and subject, or "credential:" and the keyed
// hash of a credential that is passed through. It is never a secret. Empty means that callers are not
// told apart.
type Principal string

// KeyID names a key of a ring, or one of a tenant's data keys. Letters, digits and '-' only.
type KeyID string

// Fingerprint identifies a key's bytes without telling them: the first 8 bytes of a keyed hash.
type Fingerprint [8]byte

// Epoch numbers the bindings of one session. It grows by one at each take-over or re-initialize;
// zero means that the session was never bound.
type Epoch uint64
