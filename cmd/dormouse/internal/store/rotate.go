package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Rotate gives rings of the keyring a new current key, saves the keyring and goes over to it at once: the next
// batch is under the new journal key; data keys are wrapped under the new tenant key, and their older wraps
// securely deleted. With Prepare the new keys are saved and known from then on, and seal nothing yet. Call it after Restore.
//
// What is interrupted after the keyring was saved goes on with ResumeKeys or Reload. It fails with a
// *control.RefusedError, and changes nothing, where the keyring is no file or no complete one.
func (s *Store) Rotate(ctx context.Context, q control.RotateQuery) (out control.Rotated, err error) {
	s.keys.changing.Lock()
	defer s.keys.changing.Unlock()
	k, err := s.changeable()
	if err != nil {
		return out, err
	}
	out = control.Rotated{Source: s.o.KeyFile, Prepared: q.Prepare}
	next, err := RotateRings(k, q, &out)
	if err != nil {
		return out, err
	}
	if err := seal.Save(s.o.KeyFile, next); err != nil {
		return out, refusal(err)
	}
	out.Wrapped, err = s.takeOver(ctx, next, q.Who)
	if err != nil {
		err = fmt.Errorf("%s is saved and in use, but not everything went over to it; send the daemon SIGHUP, or start it again, to go on: %w", s.o.KeyFile, err)
	}
	return out, err
}

// RotateRings returns k with the rings that q names rotated or prepared, and puts into out what was done.
func RotateRings(k *seal.Keyring, q control.RotateQuery, out *control.Rotated) (next *seal.Keyring, err error) {
	for _, name := range q.Rings {
		r := seal.Ring(name)
		if r != seal.RingJournal && r != seal.RingTenant {
			return nil, &control.RefusedError{Err: fmt.Errorf("no ring %q", name), Hint: "the rings are journal and tenant"}
		}
		from, change := k.Current(r), k.Rotate
		if q.Prepare {
			change = k.Prepare
		}
		var id journal.KeyID
		if k, id, err = change(r); err != nil {
			return nil, err
		}
		done := control.RotatedKey{Ring: name, From: string(from), To: string(id)}
		for _, key := range k.Info(r) {
			if key.ID == id {
				done.Fingerprint = key.Fingerprint
			}
		}
		out.Rings = append(out.Rings, done)
	}
	return k, nil
}

// RetireKeys drops the older keys of the tenant ring that nothing is wrapped under any more, and saves the keyring.
func (s *Store) RetireKeys(ctx context.Context, who string) (out control.Rotated, err error) {
	s.keys.changing.Lock()
	defer s.keys.changing.Unlock()
	k, err := s.changeable()
	if err != nil {
		return out, err
	}
	out = control.Rotated{Source: s.o.KeyFile}
	uses, err := s.wraps(ctx)
	if err != nil {
		return out, err
	}
	for _, key := range k.Info(seal.RingTenant) {
		if key.Current || key.Prepared || uses[key.ID] > 0 {
			continue
		}
		if k, err = k.Retire(seal.RingTenant, key.ID); err != nil {
			return out, err
		}
		out.Retired = append(out.Retired, string(key.ID))
	}
	if len(out.Retired) == 0 {
		return out, nil
	}
	if err := seal.Save(s.o.KeyFile, k); err != nil {
		return out, refusal(err)
	}
	_, err = s.takeOver(ctx, k, who)
	return out, errors.Join(err, s.record(ctx, journal.Note{
		Keys: keyIDs(out.Retired), Who: who, Text: "tenant ring: retired " + strings.Join(out.Retired, ", "),
	}))
}

func keyIDs(names []string) (ids []journal.KeyID) {
	for _, n := range names {
		ids = append(ids, journal.KeyID(n))
	}
	return ids
}

// changeable returns the keyring in the file, if it may be changed: other replicas' operators may have brought it.
func (s *Store) changeable() (*seal.Keyring, error) {
	if s.o.Keys != "" {
		return nil, EnvironmentRefusal()
	}
	k, err := seal.Load(s.o.KeyFile)
	if err == nil {
		_, err = k.Succeeds(s.Keyring())
	}
	if err != nil {
		return nil, refusal(err)
	}
	return k, nil
}

// EnvironmentRefusal says why a keyring in the environment is not changed, and what to do instead.
func EnvironmentRefusal() error {
	return &control.RefusedError{
		Err: errors.New("the keys come from DORMOUSE_KEYS, which no program can change"),
		Hint: "write it to a file (mode 0600), run `dormouse keys rotate --offline --key-file FILE` with DORMOUSE_KEYS unset, " +
			"put the file's text into DORMOUSE_KEYS of every replica, and start them again; docs/keys.md has the order for several replicas",
	}
}

// refusal gives an error about a keyring its hint.
func refusal(err error) error {
	if k, ok := errors.AsType[*seal.KeyFileError](err); ok {
		return &control.RefusedError{Err: err, Hint: k.Hint}
	}
	if errors.Is(err, seal.ErrReading) {
		return &control.RefusedError{Err: err, Hint: "take the complete keyring"}
	}
	return &control.RefusedError{Err: err, Hint: "the keyring that is in use stays; bring its file back, with the new keys added to those that are there"}
}

// mayRetire refuses to do without tenant keys that still wrap something.
func (s *Store) mayRetire(ctx context.Context, retired []journal.KeyID) error {
	if len(retired) == 0 {
		return nil
	}
	uses, err := s.wraps(ctx)
	if err != nil {
		return err
	}
	for _, id := range retired {
		if uses[id] > 0 {
			return refusal(&seal.RingKeyError{Ring: seal.RingTenant, ID: id})
		}
	}
	return nil
}

// wraps counts the data keys that each key of the tenant ring wraps.
func (s *Store) wraps(ctx context.Context) (map[journal.KeyID]int, error) {
	tenants, err := s.Vault.Tenants(ctx)
	uses := map[journal.KeyID]int{}
	for i := range tenants {
		for _, k := range tenants[i].Keys {
			for _, w := range k.Wraps {
				uses[w]++
			}
		}
	}
	return uses, err
}

// rewrap brings all data keys under the current key of the tenant ring, if they are not, and journals it. A ring with
// a prepared key is left alone: another replica may have gone over to that one.
func (s *Store) rewrap(ctx context.Context, who string) (int, error) {
	ring := s.Keyring()
	if !ring.Settled(seal.RingTenant) {
		return 0, nil
	}
	id := ring.Current(seal.RingTenant)
	uses, err := s.wraps(ctx)
	if err != nil {
		return 0, err
	}
	older := slices.DeleteFunc(ring.IDs(seal.RingTenant), func(k journal.KeyID) bool { return k == id || uses[k] == 0 })
	if len(older) == 0 {
		return 0, nil
	}
	n, err := s.Vault.Rewrap(ctx)
	if err != nil {
		return n, err
	}
	return n, s.record(ctx, journal.Note{
		Keys: []journal.KeyID{id}, Count: uint64(n), Who: who, Text: "tenant ring: data keys are wrapped under " + string(id),
	})
}

// record journals that keys were rotated.
func (s *Store) record(ctx context.Context, n journal.Note) error {
	n.Replica = s.o.Replica
	_, err := s.Committer.Append(ctx, journal.Event{Kind: journal.KindKeyRotated, At: journal.InstantOf(time.Now()), Note: &n})
	if err != nil {
		return fmt.Errorf("%s: %w", journal.KindKeyRotated, err)
	}
	return nil
}
