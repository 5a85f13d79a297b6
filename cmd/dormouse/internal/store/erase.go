package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// EraseTenant makes everything that is sealed under the tenant's data keys unreadable for ever: it journals
// that they are erased, by which the fold closes the tenant's sessions, and then deletes them, securely. If it is
// interrupted in between, ResumeErasures goes on. Erasing a tenant of which nothing is left does nothing.
//
// A session that the tenant begins afterwards is under a new key. Runtimes are the engine's to drop.
func (s *Store) EraseTenant(ctx context.Context, t journal.TenantID, who string) (out control.Erased, err error) {
	if err := s.Keyring().Complete(); err != nil {
		return out, refusal(err)
	}
	// What another replica wrote a moment ago is to be erased too.
	if err := s.Follower.CatchUp(ctx); err != nil {
		return out, err
	}
	keys, sessions, err := s.keysOf(ctx, t)
	if err != nil {
		return out, err
	}
	out = control.Erased{Tenant: t.String(), Keys: []string{}, Sessions: sessions}
	if len(keys) > 0 {
		if err := s.journalErasure(ctx, t, keys, sessions, who); err != nil {
			return out, err
		}
	}
	for _, k := range keys {
		out.Keys = append(out.Keys, string(k))
	}
	out.Deleted, err = s.deleteErased(ctx, t)
	if err != nil {
		err = fmt.Errorf("the journal says that it is erased, and its sessions are closed, but keys are left: try again, or start the daemon again, which goes on: %w", err)
	}
	return out, err
}

// keysOf returns the data keys that the tenant has or its sessions name and that are not erased yet, and how many
// sessions it has.
func (s *Store) keysOf(ctx context.Context, t journal.TenantID) (keys []journal.KeyID, sessions int, err error) {
	if keys, err = s.Vault.Keys(ctx, t); err != nil {
		return nil, 0, err
	}
	s.Follower.View(func(st *replay.State) {
		list := st.TenantSessions(t)
		sessions = len(list)
		for i := range list {
			keys = append(keys, list[i].IDKey, list[i].ContextKey, list[i].UpstreamKey)
		}
		slices.Sort(keys)
		keys = slices.DeleteFunc(slices.Compact(keys), func(k journal.KeyID) bool { return k == "" || st.ErasedKey(t, k) })
	})
	return keys, sessions, nil
}

// journalErasure returns when the erasure is durable and folded.
func (s *Store) journalErasure(ctx context.Context, t journal.TenantID, keys []journal.KeyID, sessions int, who string) error {
	at, err := s.Committer.Append(ctx, journal.Event{
		Kind: journal.KindTenantErased, At: journal.InstantOf(time.Now()),
		Note: &journal.Note{Replica: s.o.Replica, Tenant: t, Keys: keys, Count: uint64(sessions), Who: who},
	})
	if err == nil {
		err = s.Follower.WaitFor(ctx, at.Seq)
	}
	if err != nil {
		return fmt.Errorf("erase tenant %s: %w", t, err)
	}
	return nil
}

// deleteErased deletes the tenant's keys that the journal calls erased, and returns how many were left.
func (s *Store) deleteErased(ctx context.Context, t journal.TenantID) (deleted int, err error) {
	stored, err := s.Vault.Keys(ctx, t)
	if err != nil {
		return 0, err
	}
	gone := slices.DeleteFunc(stored, func(k journal.KeyID) bool { return !s.erased(t, k) })
	if len(gone) == 0 {
		return 0, nil // not Erase without keys: that deletes all
	}
	erased, err := s.Vault.Erase(ctx, t, gone...)
	return len(erased), err
}

// ResumeErasures deletes what interrupted erasures, here or on another replica, have left, and forgets keys that
// another replica erased. It returns how many data keys it deleted.
func (s *Store) ResumeErasures(ctx context.Context) (deleted int, err error) {
	s.Vault.ForgetErased()
	some := false
	s.Follower.View(func(st *replay.State) {
		for range st.ErasedKeys() {
			some = true
			break
		}
	})
	if !some {
		return 0, nil
	}
	stored, err := s.Vault.Tenants(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, t := range stored {
		if !slices.ContainsFunc(t.Keys, func(k seal.KeyWraps) bool { return s.erased(t.Tenant, k.Key) }) {
			continue
		}
		n, err := s.deleteErased(ctx, t.Tenant)
		deleted += n
		errs = append(errs, err)
	}
	return deleted, errors.Join(errs...)
}
