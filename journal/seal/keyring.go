package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Ring names one of the two rings of a keyring.
type Ring string

// The rings. They share no key, so that a holder of the first learns nothing of what is under the second.
const (
	RingJournal Ring = "journal" // opens batches
	RingTenant  Ring = "tenant"  // wraps the tenants' data keys
)

// ErrReading says that a keyring opens the history and no more. Bring the complete one where sessions are served
// or anything is written.
var ErrReading = errors.New("it is a reading keyring")

// RingKeyError says that a ring lacks a key that something is sealed under. It is journal.ErrKeyMissing. Another replica
// may have rotated since, and then has the key; or the keyring is another deployment's.
type RingKeyError struct {
	Ring Ring
	ID   journal.KeyID
}

func (e *RingKeyError) Error() string {
	return fmt.Sprintf("%v: %s is not in the %s ring", journal.ErrKeyMissing, e.ID, e.Ring)
}

// Is makes it a journal.ErrKeyMissing.
func (e *RingKeyError) Is(target error) bool { return target == journal.ErrKeyMissing }

const keySize = 32

type secret [keySize]byte

func newSecret() (s secret) {
	// crypto/rand.Read never returns an error: it aborts the process instead.
	_, _ = rand.Read(s[:])
	return s
}

// ringKey is one key of a ring.
type ringKey struct {
	id   journal.KeyID
	key  secret
	made time.Time // whole seconds, UTC; zero = not known
}

func newRingKey(id journal.KeyID) ringKey {
	return ringKey{id: id, key: newSecret(), made: time.Now().UTC().Truncate(time.Second)}
}

// ring is the keys of one purpose. New things are sealed under the current one; the others open what was
// sealed before. An empty ring has no current key.
type ring struct {
	keys    []ringKey
	current int
}

func (r *ring) find(id journal.KeyID) (secret, bool) {
	for i := range r.keys {
		if r.keys[i].id == id {
			return r.keys[i].key, true
		}
	}
	return secret{}, false
}

func (r *ring) sealing() (ringKey, bool) {
	if len(r.keys) == 0 {
		return ringKey{}, false
	}
	return r.keys[r.current], true
}

// Keyring holds the keys of a deployment. It never changes, so it is safe for concurrent use; Rotate
// returns another one. Formatting a Keyring shows key IDs and no key.
type Keyring struct {
	journal ring
	tenant  ring
	naming  *secret // nil in a reading keyring
}

// GenerateKeyring returns a keyring of new random keys: j1, t1 and a naming key.
func GenerateKeyring() *Keyring {
	naming := newSecret()
	return &Keyring{
		journal: ring{keys: []ringKey{newRingKey("j1")}},
		tenant:  ring{keys: []ringKey{newRingKey("t1")}},
		naming:  &naming,
	}
}

// Reading returns the journal ring alone: enough to fold and to audit, useless for opening a tenant's
// credentials and for making names.
func (k *Keyring) Reading() *Keyring {
	return &Keyring{journal: ring{keys: slices.Clone(k.journal.keys), current: k.journal.current}}
}

// Complete returns nil if the keyring has both rings and the naming key, as a replica that serves sessions
// needs them, and else journal.ErrKeyMissing with what is missing; ErrReading too if that is no journal key.
func (k *Keyring) Complete() error {
	switch {
	case len(k.journal.keys) == 0:
		return fmt.Errorf("keyring: %w: no journal key", journal.ErrKeyMissing)
	case len(k.tenant.keys) == 0:
		return fmt.Errorf("keyring: %w: no tenant key; %w", journal.ErrKeyMissing, ErrReading)
	case k.naming == nil:
		return fmt.Errorf("keyring: %w: no naming key; %w", journal.ErrKeyMissing, ErrReading)
	default:
		return nil
	}
}

// Current returns the ID of the key under which new things are sealed; empty when the ring is.
func (k *Keyring) Current(r Ring) journal.KeyID {
	key, _ := k.ring(r).sealing()
	return key.id
}

// IDs returns the IDs of a ring's keys in the order of the file.
func (k *Keyring) IDs(r Ring) (ids []journal.KeyID) {
	for i := range k.ring(r).keys {
		ids = append(ids, k.ring(r).keys[i].id)
	}
	return ids
}

func (k *Keyring) ring(r Ring) *ring {
	switch r {
	case RingJournal:
		return &k.journal
	case RingTenant:
		return &k.tenant
	default:
		return &ring{}
	}
}

// Name returns the keyed hash of the parts within a domain: HMAC-SHA256 under the naming key, cut to 16
// bytes. Different domains, and different lists of parts, never share an input. It panics on a keyring
// without a naming key; ask Complete first.
func (k *Keyring) Name(domain string, parts ...string) (name [16]byte) {
	if k.naming == nil {
		panic("seal: Name on a reading keyring")
	}
	mac := hmac.New(sha256.New, k.naming[:])
	mac.Write(appendParts([]byte("dormouse name v1\x00"), append([]string{domain}, parts...)...))
	copy(name[:], mac.Sum(nil))
	return name
}

// appendParts appends each part behind its length, so that no two lists give the same bytes.
func appendParts[S ~string | ~[]byte](b []byte, parts ...S) []byte {
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(p))), p...)
	}
	return b
}

// String tells the IDs and no key.
func (k *Keyring) String() string {
	return fmt.Sprintf("keyring(journal %v, tenant %v)", k.IDs(RingJournal), k.IDs(RingTenant))
}

// GoString is String: %#v tells no key either.
func (k *Keyring) GoString() string { return k.String() }
