package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// KeyInfo is what may be told of a key of a ring.
type KeyInfo struct {
	ID          journal.KeyID
	Current     bool      // new things are sealed under it
	Prepared    bool      // it stands behind the current one: the next Rotate makes it current
	Made        time.Time // whole seconds; zero = not known
	Fingerprint string    // 16 hexadecimal digits; tells equal keys from others, and nothing of the key
}

// Info lists a ring's keys in the order of the file.
func (k *Keyring) Info(r Ring) []KeyInfo {
	from := k.ring(r)
	list := make([]KeyInfo, len(from.keys))
	for i := range from.keys {
		key := &from.keys[i]
		list[i] = KeyInfo{
			ID: key.id, Current: i == from.current, Prepared: i > from.current, Made: key.made, Fingerprint: key.fingerprint(r),
		}
	}
	return list
}

func (key *ringKey) fingerprint(r Ring) string {
	mac := hmac.New(sha256.New, key.key[:])
	mac.Write(appendParts([]byte("dormouse ring key fingerprint v1\x00"), string(r), string(key.id)))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// Prepare returns a copy whose ring r has a new key that is not current yet, with the next free number as its ID
// (j2, t2), and that ID. If one is prepared already, it returns k and that one's ID.
//
// It is the first half of a rotation on several replicas: all of them must be able to open what one of them
// will seal. Give the copy to every replica, then Rotate. It fails with journal.ErrKeyMissing if the ring is empty.
func (k *Keyring) Prepare(r Ring) (*Keyring, journal.KeyID, error) {
	if from := k.ring(r); len(from.keys) > from.current+1 {
		return k, from.keys[len(from.keys)-1].id, nil
	}
	next := k.clone()
	to := next.ring(r)
	if len(to.keys) == 0 {
		return nil, "", fmt.Errorf("rotate the %s ring: %w", r, journal.ErrKeyMissing)
	}
	key := newRingKey(freeID(to, string(r[:1])))
	to.keys = append(to.keys, key)
	return next, key.id, nil
}

// Rotate returns a copy whose ring r has another current key, and that key's ID: the one that was prepared, or
// else a new one. The older keys stay for what they have sealed.
//
// Save the copy before anything is sealed under it. Where a key was not prepared, the other replicas do not have
// it, and stop at the first batch under it.
func (k *Keyring) Rotate(r Ring) (*Keyring, journal.KeyID, error) {
	prepared, id, err := k.Prepare(r)
	if err != nil {
		return nil, "", err
	}
	next := prepared.clone()
	to := next.ring(r)
	to.current = len(to.keys) - 1
	return next, id, nil
}

// Retire returns a copy without that key of ring r, which must not be the current one or stand behind it. What
// the key alone opens is lost: ask first. It fails with journal.ErrKeyMissing if there is no such older key.
func (k *Keyring) Retire(r Ring, id journal.KeyID) (*Keyring, error) {
	next := k.clone()
	from := next.ring(r)
	i := slices.IndexFunc(from.keys, func(key ringKey) bool { return key.id == id })
	if i < 0 || i >= from.current {
		return nil, fmt.Errorf("retire key %s: %w: the %s ring has no such older key", id, journal.ErrKeyMissing, r)
	}
	from.keys = slices.Delete(from.keys, i, i+1)
	from.current--
	return next, nil
}

// Settled reports whether the ring's current key is its newest, so that what is under the older ones may go over
// to it. It is not while a key is prepared: another replica may have gone over to that one already.
func (k *Keyring) Settled(r Ring) bool {
	from := k.ring(r)
	return len(from.keys) > 0 && from.current == len(from.keys)-1
}

// Succeeds returns nil if k may take the place of old in a running replica: it is complete, of the same deployment,
// and opens all that old opens. Tenant keys alone may be missing, for those are retired; which ones is
// returned. Else the error says what is wrong, as journal.ErrKeyMissing or journal.ErrWrongKey.
func (k *Keyring) Succeeds(old *Keyring) (retired []journal.KeyID, err error) {
	if err := k.Complete(); err != nil {
		return nil, err
	}
	if old.naming != nil && *old.naming != *k.naming {
		return nil, fmt.Errorf("keyring: %w: its naming key is another deployment's", journal.ErrWrongKey)
	}
	for _, r := range []Ring{RingJournal, RingTenant} {
		for i := range old.ring(r).keys {
			was := &old.ring(r).keys[i]
			switch is, ok := k.ring(r).find(was.id); {
			case ok && is != was.key:
				return nil, fmt.Errorf("keyring: %w: its key %s of the %s ring is another one", journal.ErrWrongKey, was.id, r)
			case !ok && r == RingJournal:
				return nil, fmt.Errorf("keyring: %w: %s of the journal ring, which batches are sealed under", journal.ErrKeyMissing, was.id)
			case !ok:
				retired = append(retired, was.id)
			}
		}
	}
	return retired, nil
}

func (k *Keyring) clone() *Keyring {
	return &Keyring{
		journal: ring{keys: slices.Clone(k.journal.keys), current: k.journal.current},
		tenant:  ring{keys: slices.Clone(k.tenant.keys), current: k.tenant.current},
		naming:  k.naming,
	}
}

// freeID returns the number behind the highest one, so that the ID of a retired key does not come back.
func freeID(r *ring, prefix string) journal.KeyID {
	next := len(r.keys) + 1
	for i := range r.keys {
		digits, ok := strings.CutPrefix(string(r.keys[i].id), prefix)
		if n, err := strconv.ParseUint(digits, 10, 31); ok && err == nil {
			next = max(next, int(n)+1)
		}
	}
	for ; ; next++ {
		id := journal.KeyID(prefix + strconv.Itoa(next))
		if _, taken := r.find(id); !taken {
			return id
		}
	}
}
