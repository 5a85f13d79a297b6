package store

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Orphan is a tenant's data key that sessions are sealed under and that is not as it must be: these sessions are
// restored, and cannot wake.
type Orphan struct {
	seal.KeyUse

	Sessions int
	Err      error // journal.ErrKeyMissing or journal.ErrWrongKey, with the reason
}

func (o *Orphan) String() string {
	return fmt.Sprintf("key %s of tenant %s, which %d sessions need: %v", o.Key, o.Tenant, o.Sessions, o.Err)
}

// CheckKeys looks whether every tenant key that the folded sessions name is there, unwraps and is the one that it
// was. What was erased on purpose is no orphan. Call it after Restore.
func (s *Store) CheckKeys(ctx context.Context) (orphans []Orphan, err error) {
	return s.orphans(ctx, s.Follower.View)
}

// orphans is CheckKeys for the state that view shows.
func (s *Store) orphans(ctx context.Context, view func(func(*replay.State))) (orphans []Orphan, err error) {
	uses := map[seal.KeyUse]int{}
	view(func(st *replay.State) {
		for x, n := range st.Groups() {
			if x.ContextKey != "" && !st.ErasedKey(x.Tenant, x.ContextKey) {
				uses[seal.KeyUse{Tenant: x.Tenant, Key: x.ContextKey, Fingerprint: x.Fingerprint}] += n
			}
		}
	})
	err = s.Vault.CheckAll(ctx, maps.Keys(uses), func(u seal.KeyUse, why error) {
		if !errors.Is(why, journal.ErrKeyErased) {
			orphans = append(orphans, Orphan{KeyUse: u, Sessions: uses[u], Err: why})
		}
	})
	return orphans, err
}

// erased asks the fold whether a key was erased on purpose.
func (s *Store) erased(t journal.TenantID, k journal.KeyID) (erased bool) {
	if f := s.follower.Load(); f != nil {
		f.View(func(st *replay.State) { erased = st.ErasedKey(t, k) })
	}
	return erased
}
