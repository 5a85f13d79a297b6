package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// maxSessionID bounds the length of a session ID; longer ones are nobody's.
const maxSessionID = 256

// Acquire finds a session for a request. Unknown here: it catches up with the stream's leader before it
// answers ErrUnknownSession, for the session may have been created on another replica a moment ago, and
// clients never recover from a 404. It does not wake the session; Lease.Runtime does.
//
// ErrUnknownSession is also the answer when the session has ended, has timed out (which is journaled), or
// belongs to another caller (which is a line of the security log). The owner's new credentials, presented
// with the same tenant and URL, are journaled before Acquire returns.
func (e *Engine) Acquire(ctx context.Context, id journal.SessionID, c Caller) (*Lease, error) {
	if id == "" || len(id) > maxSessionID {
		return nil, ErrUnknownSession
	}
	f := e.finder()
	defer e.free(f)
	if err := e.admit(ctx, f, id.Ref(), &c); err != nil {
		return nil, err
	}
	l, err := e.lease(&f.s, id)
	if err != nil {
		return nil, err
	}
	l.unproven = unproven(&f.s, &c)
	if err := e.settle(ctx, l, f, &c); err != nil {
		l.Release()
		return nil, err
	}
	return l, nil
}

// admit finds the session and checks that it is the caller's and has not timed out.
func (e *Engine) admit(ctx context.Context, f *finder, ref journal.Ref, c *Caller) error {
	ok, err := f.find(ctx, e, ref)
	if err != nil {
		return err
	}
	if !ok {
		return ErrUnknownSession
	}
	if differs := mismatch(&f.s, c); differs != "" {
		return e.refuse(&f.s, differs)
	}
	now := time.Now()
	if f.s.Expires() > journal.InstantOf(now) || e.inUse(&f.s, now) || !e.outage.over(now) {
		return nil
	}
	return e.timedOut(ctx, f)
}

// timedOut journals the expiry, unless the fold has an access that this engine had not seen.
func (e *Engine) timedOut(ctx context.Context, f *finder) error {
	if _, err := e.expire(ctx, []expiry{{f.s.Ref, f.s.LastAccess}}); err != nil {
		return fmt.Errorf("expire session %s: %w", f.s.Ref, err)
	}
	if !f.look(e, f.s.Ref) {
		return ErrUnknownSession
	}
	return nil
}

// settle brings the lease's entry in line with the fold and with what the caller presented.
func (e *Engine) settle(ctx context.Context, l *Lease, f *finder, c *Caller) error {
	changed, err := e.present(ctx, l, &f.s, c)
	if err != nil {
		return err
	}
	if changed && !f.look(e, f.s.Ref) {
		return ErrUnknownSession
	}
	e.refresh(ctx, l.entry, &f.s)
	return nil
}

// mismatch says in what c is not the caller to whom s belongs; "" if it is.
func mismatch(s *replay.Session, c *Caller) string {
	switch {
	case s.Tenant != c.Tenant && !importedFor(s, c):
		return "tenant"
	case s.URLHash != c.URLHash:
		return "url"
	case unclaimed(s):
		return ""
	case s.Principal != c.Principal && !unproven(s, c):
		return "principal"
	}
	return ""
}

// unproven reports whether c may be the owner of s with a new credential: the upstream will tell.
func unproven(s *replay.Session, c *Caller) bool {
	return c.Opaque && c.isCredential() && isCredential(s.Principal) && s.Principal != c.Principal
}

// importedFor reports whether s was imported for the tenant that c's context names, although the operator has put
// c into another. Nobody gets in by that alone: until s has a principal, the whole context must be right,
// and then the principal.
func importedFor(s *replay.Session, c *Caller) bool {
	return s.Source == journal.SourceImport && c.Context != nil && c.ContextTenant != (journal.TenantID{}) && s.Tenant == c.ContextTenant
}

// unclaimed reports whether s was imported and nobody has used it yet: the first caller who presents its
// full context becomes its principal.
func unclaimed(s *replay.Session) bool {
	return s.Source == journal.SourceImport && s.Principal == ""
}

// refuse logs that somebody else tried to use the session, and answers as if there were none.
func (e *Engine) refuse(s *replay.Session, differs string) error {
	send(e.security("session_refused").Stringer("session", s.Ref).Stringer("tenant", s.Tenant).Str("differs", differs), "session_refused")
	return ErrUnknownSession
}

// find reads a session from the fold, caught up with the leader if it is not there.
func (e *Engine) find(ctx context.Context, ref journal.Ref) (replay.Session, bool, error) {
	f := e.finder()
	defer e.free(f)
	ok, err := f.find(ctx, e, ref)
	return f.s, ok, err
}

// refresh deals with a runtime that no longer fits the session: taken over by another replica, or made
// with credentials that have changed.
func (e *Engine) refresh(ctx context.Context, en *entry, s *replay.Session) {
	r, moved := e.stale(en, s)
	if r == nil {
		return
	}
	if !moved && e.rotate(ctx, r, s) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if en.run == r {
		if m, ok := r.rt.(Mover); ok && moved {
			m.Moved()
		}
		e.unlive(en, false)
		e.log.Info().Stringer("session", s.Ref).Bool("moved", moved).Msg("runtime dropped: session was bound elsewhere or its context changed")
	}
}
