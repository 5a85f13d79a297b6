package store

import (
	"context"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Keys tells of the keyring and what its keys are used for. Counting batches reads the header of each.
func (s *Store) Keys(ctx context.Context, count bool) (control.Keys, error) {
	out := KeysOf(s.Keyring(), KeySource(s.o))
	uses, err := s.wraps(ctx)
	if err != nil {
		return out, err
	}
	var batches map[journal.KeyID]uint64
	if count {
		if batches, err = s.batches(ctx); err != nil {
			return out, err
		}
	}
	for i := range out.Keys {
		k := &out.Keys[i]
		id := journal.KeyID(k.ID)
		if n := uses[id]; k.Ring == string(seal.RingTenant) {
			k.Wraps = &n
		}
		if n := batches[id]; count && k.Ring == string(seal.RingJournal) {
			k.Batches = &n
		}
	}
	return out, nil
}

// KeysOf tells of a keyring without a store.
func KeysOf(ring *seal.Keyring, source string) control.Keys {
	out := control.Keys{Source: source, Keys: []control.Key{}}
	for _, r := range []seal.Ring{seal.RingJournal, seal.RingTenant} {
		for _, info := range ring.Info(r) {
			k := control.Key{Ring: string(r), ID: string(info.ID), State: control.KeyOlder, Made: info.Made, Fingerprint: info.Fingerprint}
			switch {
			case info.Current:
				k.State = control.KeyCurrent
			case info.Prepared:
				k.State = control.KeyPrepared
			}
			out.Keys = append(out.Keys, k)
		}
	}
	return out
}

// batches counts the batches under each key of the journal ring by their headers.
func (s *Store) batches(ctx context.Context) (map[journal.KeyID]uint64, error) {
	n := map[journal.KeyID]uint64{}
	bounds, err := s.Journal.Bounds(ctx)
	if err != nil || bounds.Last == 0 || bounds.First > bounds.Last {
		return n, err
	}
	err = s.Journal.Read(ctx, bounds.First-1, func(m journal.Message) error {
		h, _, err := journal.ParseHeader(m.Data)
		if err != nil {
			return err
		}
		n[h.Key]++
		if m.Seq >= bounds.Last {
			return journal.ErrStop
		}
		return nil
	})
	return n, err
}
