package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// OrphansError says that tenants' keys are not as they must be: the sessions that need them could never wake. It is
// journal.ErrDamaged.
type OrphansError struct{ Orphans []Orphan }

func (e *OrphansError) Error() string {
	var b strings.Builder
	b.WriteString("tenants' keys are damaged or gone:")
	for i := range e.Orphans {
		const most = 20
		if i == most {
			fmt.Fprintf(&b, "\n  - and %d more", len(e.Orphans)-most)
			break
		}
		fmt.Fprintf(&b, "\n  - %s", &e.Orphans[i])
	}
	return b.String()
}

// Is makes it journal.ErrDamaged.
func (e *OrphansError) Is(target error) bool { return target == journal.ErrDamaged }

// ResolveOrphans makes sure that every restored session can wake. It fails with *OrphansError if some cannot; if the
// operator accepts that, it closes them, journals it, and returns how many it closed. A key that only this keyring
// lacks is never accepted: its *seal.RingKeyError is returned. Call it after Restore, before anything uses the sessions.
func (s *Store) ResolveOrphans(ctx context.Context) (closed int, err error) {
	orphans, err := s.CheckKeys(ctx)
	if err != nil || len(orphans) == 0 {
		return 0, err
	}
	for i := range orphans {
		if _, ring := errors.AsType[*seal.RingKeyError](orphans[i].Err); ring {
			return 0, orphans[i].Err
		}
	}
	if !s.o.AcceptLoss {
		return 0, &OrphansError{Orphans: orphans}
	}
	s.guard.accepted = true
	for i := range orphans {
		if err := s.closeOrphans(ctx, &orphans[i]); err != nil {
			return closed, fmt.Errorf("close the sessions of key %s: %w", orphans[i].Key, err)
		}
		closed += orphans[i].Sessions
		s.guard.orphaned = closed
	}
	return closed, nil
}

// closeOrphans ends the sessions that need a lost key. The note of the loss comes first, and counts them.
func (s *Store) closeOrphans(ctx context.Context, o *Orphan) error {
	now := journal.InstantOf(time.Now())
	events := []journal.Event{{Kind: journal.KindLossAccepted, At: now, Note: &journal.Note{
		Replica: s.o.Replica, Count: uint64(o.Sessions), Tenant: o.Tenant, Keys: []journal.KeyID{o.Key}, Text: clip(o.String()),
	}}}
	s.Follower.View(func(st *replay.State) {
		for x := range st.All() {
			if x.Tenant == o.Tenant && x.ContextKey == o.Key {
				events = append(events, journal.Event{Kind: journal.KindClosed, Ref: x.Ref, At: now, Epoch: x.Epoch, Reason: journal.ReasonLostKey})
			}
		}
	})
	for part := range slices.Chunk(events, 500) {
		at, err := s.Committer.Append(ctx, part...)
		if err == nil {
			err = s.Follower.WaitFor(ctx, at.Seq)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
