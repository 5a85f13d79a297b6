package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Opened is what opening a new session gave.
type Opened struct {
	Initialize json.RawMessage // params of the initialize request
	Protocol   string          // negotiated version
	Upstream   string          // the upstream's session ID; empty when it has none
	Runtime    Runtime         // nil leaves the session dormant
}

// Create checks the limits, mints an ID, lets open do the handshake, and returns once the session is durable
// (created and bound at epoch 1 in one batch) and folded. If anything fails after open, the runtime is closed.
//
// It fails with ErrSessionLimit, ErrNotReady, journal.ErrUnavailable, journal.ErrOutcomeUnknown, or what
// open returned. After ErrOutcomeUnknown the session may exist, but nobody holds its ID: the engine closes
// it as soon as it can, and if the process ends before that, the session expires by its timeout.
func (e *Engine) Create(ctx context.Context, c Caller, open func(ctx context.Context, s *Session) (Opened, error)) (*Lease, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	id := journal.NewSessionID()
	s := &Session{e: e, id: id, ref: id.Ref()}
	if err := e.reserve(ctx, s.ref, reserved{c.Tenant, c.Principal}); err != nil {
		e.exit()
		return nil, err
	}
	defer e.limits.release(s.ref)
	l, err := e.create(ctx, c, s, open)
	if err != nil {
		e.exit()
		return nil, err
	}
	return l, nil
}

// exit is leave for those who do not hold e.mu.
func (e *Engine) exit() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leave()
}

// reserve makes room for a session. At the limit, what has expired goes first.
func (e *Engine) reserve(ctx context.Context, ref journal.Ref, who reserved) error {
	err := e.limits.reserve(e.o.Table, ref, who)
	if err == nil {
		return nil
	}
	_, _ = e.ExpireDue(ctx) // what it could not expire still counts
	if err = e.limits.reserve(e.o.Table, ref, who); err == nil {
		return nil
	}
	if l, ok := errors.AsType[*limitError](err); ok {
		e.limitReached(l, who.tenant)
	}
	return err
}

func (e *Engine) limitReached(l *limitError, t journal.TenantID) {
	e.o.Observer.LimitReached()
	line := e.security("max_sessions_reached").Int("count", l.count).Int("limit", l.max).Str("of", l.what)
	send(line.Stringer("tenant", t), "max_sessions_reached")
}

func (e *Engine) create(ctx context.Context, c Caller, s *Session, open func(context.Context, *Session) (Opened, error)) (*Lease, error) {
	// Before the upstream is bothered.
	if _, _, err := e.o.Vault.Key(ctx, c.Tenant); err != nil {
		return nil, fmt.Errorf("tenant key: %w", unreachable(err))
	}
	e.prepare(s, &c)
	opened, err := open(ctx, s)
	if err != nil {
		e.discard(s, opened.Runtime)
		return nil, err
	}
	events, err := e.store(ctx, &c, s, &opened)
	if errors.Is(err, journal.ErrKeyErased) {
		// The tenant was erased meanwhile. This session is the first of those that come after.
		events, err = e.store(ctx, &c, s, &opened)
	}
	if err != nil {
		e.discard(s, opened.Runtime)
		return nil, fmt.Errorf("create session %s: %w", s.ref, err)
	}
	s.pending.Store(nil)
	s.see(1)
	l, err := e.begin(s, &c, &opened, events[0].Created)
	if err != nil {
		e.discard(s, opened.Runtime)
		return nil, err
	}
	e.o.Observer.SessionCreated()
	return l, nil
}

// prepare lets s answer while it is being opened.
func (e *Engine) prepare(s *Session, c *Caller) {
	now := journal.InstantOf(time.Now())
	p := &pending{state: replay.Session{
		Ref: s.ref, Source: journal.SourceClient, CreatedAt: now, LastAccess: now, Timeout: e.o.SessionTimeout,
		Tenant: c.Tenant, Label: c.Label, URLHash: c.URLHash, Principal: c.Principal, Replica: e.o.Replica,
	}}
	if c.Context != nil {
		p.context = *c.Context
	}
	s.pending.Store(p)
}

// store seals a new session under its tenant's current key and stores it.
func (e *Engine) store(ctx context.Context, c *Caller, s *Session, o *Opened) ([]journal.Event, error) {
	key, fp, err := e.o.Vault.Key(ctx, c.Tenant)
	if err != nil {
		return nil, fmt.Errorf("tenant key: %w", unreachable(err))
	}
	events, err := e.created(ctx, c, s, o, key, fp)
	if err == nil {
		err = e.record(ctx, s.ref, events)
	}
	return events, err
}

// created makes the events of a new session: created, the claim of epoch 1, the upstream's session.
func (e *Engine) created(
	ctx context.Context, c *Caller, s *Session, o *Opened, key journal.KeyID, fp journal.Fingerprint,
) ([]journal.Event, error) {
	p := s.pending.Load().state
	cr := &journal.Created{
		Source: p.Source, Tenant: c.Tenant, Label: c.Label, Key: key, Fingerprint: fp, URLHash: c.URLHash,
		Principal: c.Principal, Initialize: o.Initialize, Protocol: o.Protocol, Timeout: p.Timeout,
		CreatedAt: journal.InstantOf(time.Now()),
	}
	cr.LastAccess = cr.CreatedAt
	if err := e.sealCreated(ctx, cr, s.id, s.ref, c.Context); err != nil {
		return nil, err
	}
	events := []journal.Event{
		{Kind: journal.KindCreated, Ref: s.ref, At: cr.CreatedAt, Created: cr},
		e.claim(s.ref, 1),
	}
	if o.Upstream != "" {
		ev, err := e.upstream(ctx, s.ref, c.Tenant, 1, o.Upstream)
		if err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	return events, nil
}

// sealCreated seals a session's ID and context under cr's tenant and key.
func (e *Engine) sealCreated(ctx context.Context, cr *journal.Created, id journal.SessionID, ref journal.Ref, ic *InstanceContext) (err error) {
	cr.ID, err = e.o.Vault.Seal(ctx, cr.Tenant, cr.Key, journal.PurposeSessionID, ref, []byte(id.Reveal()))
	if err != nil {
		return fmt.Errorf("seal the session ID: %w", err)
	}
	if ic != nil {
		cr.Context, err = e.sealContext(ctx, cr.Tenant, cr.Key, ref, ic)
	}
	return err
}

// record stores a new session and asks the fold what became of it.
func (e *Engine) record(ctx context.Context, ref journal.Ref, events []journal.Event) error {
	pos, err := e.commit(ctx, events...)
	if errors.Is(err, journal.ErrOutcomeUnknown) {
		e.orphan.add(ref)
	}
	if err != nil {
		return err
	}
	cr := events[0].Created
	e.o.Table.View(func(st *replay.State) {
		s, ok := st.Session(ref)
		switch {
		case ok && s.Position == pos && s.Epoch > 0:
		case st.ErasedKey(cr.Tenant, cr.Key):
			err = journal.ErrKeyErased
		default:
			err = fmt.Errorf("%w: the fold refused it", journal.ErrUnavailable)
		}
	})
	return err
}

// begin makes the new session live and returns its lease, which Create has entered already.
func (e *Engine) begin(s *Session, c *Caller, o *Opened, cr *journal.Created) (*Lease, error) {
	en := newEntry(s, cr.Timeout)
	en.see(1)
	en.touch(cr.CreatedAt)
	if complete(c.Context) {
		en.marks = e.mark(c.Context, cr.Context)
	}
	l := &Lease{e: e}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.entries[s.ref] = en
	e.take(l, en)
	if o.Runtime == nil {
		return l, nil
	}
	// The runtime's handle is its own: what others are told of later epochs does not count for it.
	r := &run{rt: o.Runtime, session: s, context: bytes.Clone(cr.Context)}
	en.session = &Session{e: e, id: s.id, ref: s.ref}
	if err := e.install(en, r); err != nil {
		l.released = true
		en.leases--
		e.forget(en)
		return nil, err
	}
	return l, nil
}

// discard closes the runtime of a session that did not come about.
func (e *Engine) discard(s *Session, rt Runtime) {
	if rt == nil {
		return
	}
	if err := guard(rt.Close); err != nil {
		e.log.Warn().Err(err).Stringer("session", s.ref).Msg("closing a runtime")
	}
}
