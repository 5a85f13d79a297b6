package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Session is a handle on one session of the table, for runtimes and wakers. It holds no state of the
// session: every method asks the fold. Safe for concurrent use.
type Session struct {
	e       *Engine
	id      journal.SessionID
	ref     journal.Ref
	seen    atomic.Uint64 // the newest epoch that this handle was told of
	pending atomic.Pointer[pending]
}

// pending is what a session will be while Create is opening it.
type pending struct {
	state   replay.Session
	context InstanceContext
}

// ID returns the session ID.
func (s *Session) ID() journal.SessionID { return s.id }

// Ref returns the session's ref.
func (s *Session) Ref() journal.Ref { return s.ref }

// State returns the session as it is folded; false once it has ended. While Create is opening the session
// it returns what is known so far.
func (s *Session) State() (replay.Session, bool) {
	if p := s.pending.Load(); p != nil {
		return p.state, true
	}
	return s.e.look(s.ref)
}

// Context returns the session's instance context, opened now; the zero one if the session has none.
// Do not keep it: it holds credentials, and they may change.
func (s *Session) Context(ctx context.Context) (InstanceContext, error) {
	if p := s.pending.Load(); p != nil {
		return p.context, nil
	}
	st, ok := s.e.look(s.ref)
	if !ok {
		return InstanceContext{}, ErrUnknownSession
	}
	return s.e.openContext(ctx, &st)
}

func (e *Engine) openContext(ctx context.Context, st *replay.Session) (ic InstanceContext, err error) {
	if len(st.Context) == 0 {
		return ic, nil
	}
	plain, err := e.o.Vault.Open(ctx, st.Tenant, st.ContextKey, journal.PurposeContext, st.Ref, st.Context)
	if err != nil {
		return ic, fmt.Errorf("open the context of session %s: %w", st.Ref, err)
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &ic); err != nil {
		return InstanceContext{}, fmt.Errorf("context of session %s: %w", st.Ref, journal.ErrMalformed)
	}
	return ic, nil
}

// Binding is who serves a session.
type Binding struct {
	Epoch    journal.Epoch
	Replica  journal.ReplicaID
	Upstream string // the upstream's session ID, opened; empty when none is recorded at this epoch
}

// Binding returns the session's binding as it is folded. A runtime that asks serves that epoch from then on.
func (s *Session) Binding(ctx context.Context) (Binding, error) {
	st, ok := s.State()
	if !ok {
		return Binding{}, ErrUnknownSession
	}
	b := Binding{Epoch: st.Epoch, Replica: st.Replica}
	if len(st.Upstream) > 0 {
		id, err := s.e.o.Vault.Open(ctx, st.Tenant, st.UpstreamKey, journal.PurposeUpstream, st.Ref, st.Upstream)
		if err != nil {
			return Binding{}, fmt.Errorf("open the upstream session of %s: %w", s.ref, err)
		}
		b.Upstream = string(id)
	}
	s.see(b.Epoch)
	return b, nil
}

func (s *Session) see(epoch journal.Epoch) {
	for {
		old := s.seen.Load()
		if uint64(epoch) <= old || s.seen.CompareAndSwap(old, uint64(epoch)) {
			return
		}
	}
}

// Claim journals the claim of the epoch after old and waits for the fold's word: the new epoch, or
// ErrClaimLost when another claim was first, or ErrUnknownSession when the session has ended.
// After journal.ErrOutcomeUnknown read Binding: the claim may be this replica's all the same.
func (s *Session) Claim(ctx context.Context, old journal.Epoch) (journal.Epoch, error) {
	epoch := old + 1
	pos, err := s.e.commit(ctx, s.e.claim(s.ref, epoch))
	if err != nil {
		return 0, fmt.Errorf("claim session %s: %w", s.ref, err)
	}
	st, ok := s.e.look(s.ref)
	switch {
	case !ok:
		return 0, ErrUnknownSession
	case st.Epoch != epoch || st.BoundAt != pos: // if ours was accepted at all, it is over
		return 0, ErrClaimLost
	}
	s.see(epoch)
	s.e.sawEpoch(s.ref, epoch)
	return epoch, nil
}

// ClaimedAt returns where the claim is stored that Claim made last for this epoch; zero if the epoch has moved on.
func (s *Session) ClaimedAt(epoch journal.Epoch) journal.Seq {
	if st, ok := s.e.look(s.ref); ok && st.Epoch == epoch {
		return st.BoundAt.Seq
	}
	return 0
}

func (e *Engine) claim(ref journal.Ref, epoch journal.Epoch) journal.Event {
	return journal.Event{
		Kind: journal.KindBound, Ref: ref, At: journal.InstantOf(time.Now()), Epoch: epoch,
		Bound: &journal.Bound{Replica: e.o.Replica},
	}
}

func (e *Engine) sawEpoch(ref journal.Ref, epoch journal.Epoch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if en := e.entries[ref]; en != nil {
		en.see(epoch)
	}
}

// Bind records the upstream's session at the claimed epoch; an empty upstream records nothing. It fails
// with ErrClaimLost if the epoch has moved on, and with ErrUnknownSession when the session has ended.
func (s *Session) Bind(ctx context.Context, at journal.Epoch, upstream string) error {
	st, ok := s.e.look(s.ref)
	if !ok {
		return ErrUnknownSession
	}
	if st.Epoch != at {
		return ErrClaimLost
	}
	if upstream == "" {
		return nil
	}
	ev, err := s.e.upstream(ctx, s.ref, st.Tenant, at, upstream)
	if err != nil {
		return err
	}
	if _, err := s.e.commit(ctx, ev); err != nil {
		return fmt.Errorf("bind session %s: %w", s.ref, err)
	}
	st, ok = s.e.look(s.ref)
	switch {
	case !ok:
		return ErrUnknownSession
	case st.Epoch != at || !bytes.Equal(st.Upstream, ev.Bound.Upstream):
		return ErrClaimLost
	}
	return nil
}

// upstream makes the record of an upstream's session.
func (e *Engine) upstream(ctx context.Context, ref journal.Ref, t journal.TenantID, at journal.Epoch, id string) (journal.Event, error) {
	key, _, err := e.o.Vault.Key(ctx, t)
	if err != nil {
		return journal.Event{}, fmt.Errorf("tenant key: %w", err)
	}
	sealed, err := e.o.Vault.Seal(ctx, t, key, journal.PurposeUpstream, ref, []byte(id))
	if err != nil {
		return journal.Event{}, fmt.Errorf("seal the upstream session of %s: %w", ref, err)
	}
	return journal.Event{
		Kind: journal.KindBound, Ref: ref, At: journal.InstantOf(time.Now()), Epoch: at,
		Bound: &journal.Bound{Replica: e.o.Replica, Upstream: sealed, Key: key},
	}, nil
}
