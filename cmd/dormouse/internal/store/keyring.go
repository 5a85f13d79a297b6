package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// keys is the keyring in use and what seals and opens with it.
type keys struct {
	changing sync.Mutex // held by whoever changes the keyring
	ring     atomic.Pointer[seal.Keyring]
	opener   *seal.BatchOpener
	sealer   *seal.BatchSealer // nil before Restore
}

// opener opens a store's batches, in memory that is used again where a restore asks for that.
type opener struct{ s *Store }

// Open implements replay.Opener.
func (o opener) Open(data []byte) (*journal.Batch, error) { return o.s.openBatch(nil, data) }

// OpenIn is Open, and makes the batch in an arena.
func (o opener) OpenIn(a *journal.Arena, data []byte) (*journal.Batch, error) {
	return o.s.openBatch(a, data)
}

// ParseEnvironment reads the keyring in the text of DORMOUSE_KEYS. Its error is ErrEnvironment.
func ParseEnvironment(text string) (*seal.Keyring, error) {
	k, err := seal.ParseKeyring([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	return k, nil
}

// LoadKeys reads the keyring that o names, without a store.
func LoadKeys(o Options) (*seal.Keyring, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if o.Keys != "" {
		return ParseEnvironment(o.Keys)
	}
	return seal.Load(o.KeyFile)
}

// KeySource says where o has its keyring from: the key file's path or DORMOUSE_KEYS.
func KeySource(o Options) string {
	if o.Keys != "" {
		return "DORMOUSE_KEYS"
	}
	_ = o.fill() // without a folder there is no path to tell
	return o.KeyFile
}

// Keyring returns the keyring in use.
func (s *Store) Keyring() *seal.Keyring { return s.keys.ring.Load() }

// openBatch opens a batch. If its key is not known, another replica may have rotated, and the operator brought the key
// file since: it is read once more.
func (s *Store) openBatch(a *journal.Arena, data []byte) (*journal.Batch, error) {
	b, err := s.keys.opener.OpenIn(a, data)
	if !errors.Is(err, journal.ErrKeyMissing) || s.o.Keys != "" {
		return b, err
	}
	k, loadErr := seal.Load(s.o.KeyFile)
	if loadErr != nil {
		return nil, err
	}
	if _, unfit := k.Succeeds(s.Keyring()); unfit != nil {
		return nil, err
	}
	s.keys.opener.Use(k)
	s.snapshots.sealer.Use(k)
	if b, err = s.keys.opener.OpenIn(a, data); err == nil && s.o.KeysFound != nil {
		s.o.KeysFound()
	}
	return b, err
}

// Reload reads the key file again and goes over to what it says: see Rotate. It reports whether anything
// was changed. A file that does not fit changes nothing; the error is a *control.RefusedError.
func (s *Store) Reload(ctx context.Context) (changed bool, wrapped int, err error) {
	if s.o.Keys != "" {
		return false, 0, nil
	}
	s.keys.changing.Lock()
	defer s.keys.changing.Unlock()
	k, err := seal.Load(s.o.KeyFile)
	if err != nil {
		return false, 0, refusal(err)
	}
	changed = string(k.Text()) != string(s.Keyring().Text())
	wrapped, err = s.takeOver(ctx, k, "")
	return changed, wrapped, err
}

// ResumeKeys ends what an interrupted rotation has left to do. It returns how many data keys it wrapped anew.
func (s *Store) ResumeKeys(ctx context.Context) (wrapped int, err error) {
	s.keys.changing.Lock()
	defer s.keys.changing.Unlock()
	if s.Keyring().Complete() != nil {
		return 0, nil // nothing that a reading keyring could do
	}
	return s.rewrap(ctx, "")
}

// takeOver goes over to another keyring. keys.changing is held.
func (s *Store) takeOver(ctx context.Context, next *seal.Keyring, who string) (wrapped int, err error) {
	before := s.Keyring()
	retired, err := next.Succeeds(before)
	if err != nil {
		return 0, refusal(err)
	}
	if err := s.mayRetire(ctx, retired); err != nil {
		return 0, err
	}
	s.keys.opener.Use(next)
	s.snapshots.sealer.Use(next)
	s.Vault.Use(next)
	if err := s.keys.sealer.Use(next); err != nil {
		return 0, err
	}
	s.keys.ring.Store(next)
	if id := next.Current(seal.RingJournal); id != before.Current(seal.RingJournal) {
		err = s.record(ctx, journal.Note{Keys: []journal.KeyID{id}, Who: who, Text: "journal ring: this batch and the next are sealed under " + string(id)})
	}
	wrapped, wrapErr := s.rewrap(ctx, who)
	return wrapped, errors.Join(err, wrapErr)
}
