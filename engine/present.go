package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// marks are keyed hashes of the credentials in a context, so that a request's can be compared with the
// session's without opening that. The key is this process's own and never leaves it.
type marks struct {
	of       journal.Sealed // the sealed context of which they are
	both     mark           // of key and instance ID
	instance mark
}

type mark [sha256.Size]byte

func (m mark) equals(o mark) bool { return subtle.ConstantTimeCompare(m[:], o[:]) == 1 }

func (e *Engine) mark(ic *InstanceContext, of journal.Sealed) marks {
	return marks{of: bytes.Clone(of), both: e.markOf(ic.N8nAPIKey, ic.InstanceID), instance: e.markOf("", ic.InstanceID)}
}

// markOf hashes both texts behind the engine's secret. The hash is never shown, so a plain hash is a good
// keyed one here.
func (e *Engine) markOf(key, instance string) mark {
	var room [512]byte
	b := append(room[:0], e.secret[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(key)))
	b = append(b, key...)
	b = append(b, instance...)
	return sha256.Sum256(b)
}

func complete(ic *InstanceContext) bool { return ic != nil && ic.Complete() }

// present compares the context that the caller presents with the session's, and journals what the caller may
// change: the key that its owner rotated, or, in a session that was imported, its first principal.
// It reports whether it changed anything.
func (e *Engine) present(ctx context.Context, l *Lease, s *replay.Session, c *Caller) (bool, error) {
	if l.unproven {
		return false, e.presentUnproven(ctx, l, s, c)
	}
	first := unclaimed(s)
	if !complete(c.Context) || len(s.Context) == 0 {
		if first && len(s.Initialize) == 0 {
			return false, e.refuse(s, "incomplete context")
		}
		return false, nil
	}
	m, err := e.marksOf(ctx, l.entry, s)
	if err != nil {
		return false, err
	}
	sameKey := m.both.equals(e.markOf(c.Context.N8nAPIKey, c.Context.InstanceID))
	switch {
	case !sameKey && !m.instance.equals(e.markOf("", c.Context.InstanceID)):
		return false, e.refuse(s, "instance")
	case first && !sameKey && (c.Principal != "" || len(s.Initialize) == 0):
		return false, e.refuse(s, "credential")
	case first && c.Principal != "":
		return true, l.Session().Change(ctx, Changes{Principal: c.Principal})
	case sameKey:
		return false, nil
	case c.isCredential():
		return false, e.refuse(s, "credential")
	}
	return e.rotated(ctx, l, s, c)
}

// presentUnproven lets a caller with a new credential go on to be proven only with the very context of the session: two
// things that change at once are nobody's proof of anything.
func (e *Engine) presentUnproven(ctx context.Context, l *Lease, s *replay.Session, c *Caller) error {
	if len(s.Context) == 0 && c.Context == nil {
		return nil
	}
	if len(s.Context) == 0 || !complete(c.Context) {
		return e.refuse(s, "incomplete context")
	}
	m, err := e.marksOf(ctx, l.entry, s)
	if err == nil && !m.both.equals(e.markOf(c.Context.N8nAPIKey, c.Context.InstanceID)) {
		return e.refuse(s, "credential")
	}
	return err
}

// rotated journals the new credentials of a session's owner, unless they change all the time.
func (e *Engine) rotated(ctx context.Context, l *Lease, s *replay.Session, c *Caller) (bool, error) {
	if err := e.o.ValidateContext(*c.Context); err != nil {
		e.log.Warn().Err(err).Stringer("session", s.Ref).Msg("new credentials refused")
		return false, e.refuse(s, "invalid context")
	}
	if !e.damper.allow(l.entry.ref) {
		e.log.Debug().Stringer("session", s.Ref).Msg("credentials change all the time: the former ones stay for now")
		return false, nil
	}
	if err := l.Session().Change(ctx, Changes{Context: c.Context}); err != nil {
		return false, fmt.Errorf("new credentials: %w", err)
	}
	send(e.security("credentials_changed").Stringer("session", s.Ref).Stringer("tenant", s.Tenant), "credentials_changed")
	return true, nil
}

// marksOf returns the marks of the session's context, opened only when it is not the one seen last.
func (e *Engine) marksOf(ctx context.Context, en *entry, s *replay.Session) (marks, error) {
	e.mu.Lock()
	m := en.marks
	e.mu.Unlock()
	if bytes.Equal(m.of, s.Context) {
		return m, nil
	}
	ic, err := e.openContext(ctx, s)
	if err != nil {
		return m, err
	}
	m = e.mark(&ic, s.Context)
	e.mu.Lock()
	defer e.mu.Unlock()
	en.marks = m
	return m, nil
}

// stale returns the entry's runtime if it no longer fits the session as it is folded: moved says that
// another replica has bound the session since; otherwise its context has changed.
func (e *Engine) stale(en *entry, s *replay.Session) (r *run, moved bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r = en.run
	if r == nil {
		return nil, false
	}
	moved = uint64(s.Epoch) > r.session.seen.Load() && s.Replica != e.o.Replica
	if !moved && bytes.Equal(r.context, s.Context) {
		return nil, false
	}
	return r, moved
}

// rotate gives a runtime the session's new context, if it can take it.
func (e *Engine) rotate(ctx context.Context, r *run, s *replay.Session) bool {
	ro, ok := r.rt.(Rotator)
	if !ok {
		return false
	}
	ic, err := e.openContext(ctx, s)
	if err == nil {
		err = guard(func() error { return ro.Rotate(ctx, ic) })
	}
	if err != nil {
		e.log.Warn().Err(err).Stringer("session", s.Ref).Msg("runtime does not take the new credentials")
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r.context = bytes.Clone(s.Context)
	return true
}
