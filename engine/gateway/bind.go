package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/replicas"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Another replica that has claimed a session records its upstream session soon; after claimPatience it is
// taken for dead.
const (
	claimPatience = 3 * time.Second
	claimPoll     = 50 * time.Millisecond
)

// caller is the request on whose behalf the upstream is spoken to.
type caller struct {
	header http.Header
	remote string
}

func callerOf(r *http.Request) caller { return caller{header: r.Header, remote: r.RemoteAddr} }

// bound returns a binding that may be used: not one that is presumed lost.
func (p *proxy) bound(ctx context.Context, who caller) (*binding, error) {
	for {
		b := p.cur.Load()
		if b == nil {
			var err error
			if b, err = p.rebind(ctx, who, nil); err != nil {
				return nil, err
			}
		}
		v, err := p.admit(ctx, who, b)
		if err != nil || v == verdictAlive {
			return b, err
		}
		if _, err := p.rebind(ctx, who, b); err != nil {
			return nil, err
		}
	}
}

// admit reports whether b may be used: verdictAlive or verdictLost. errDown: that could not be found out.
func (p *proxy) admit(ctx context.Context, who caller, b *binding) (verdict, error) {
	if err := p.mayServe(b); err != nil {
		return verdictNone, err
	}
	if b.id == "" || !p.shared() || p.w.health.fresh(b.proven.Load()) {
		return verdictAlive, nil
	}
	v, era, err := p.w.health.admit(ctx, b.proven.Load(), func(ctx context.Context) verdict { return p.ping(ctx, who, b) })
	switch {
	case err != nil:
		return verdictNone, err
	case v == verdictDown:
		return verdictNone, errDown
	case v == verdictAlive:
		b.proven.Store(era)
	}
	return v, nil
}

// current returns the binding as it is recorded, without a new one being made; nil if there is no usable one.
func (p *proxy) current(ctx context.Context) (*binding, error) {
	if b := p.cur.Load(); b != nil {
		return b, nil
	}
	select {
	case p.flight <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-p.flight }()
	if b := p.cur.Load(); b != nil {
		return b, nil
	}
	b, err := p.adopt(ctx, nil)
	if b != nil && err == nil {
		p.bind(b)
	}
	return b, err
}

// rebind replaces a binding that is lost, or nil: by the one that is recorded if that is newer, else by a
// new upstream session. All who ask meanwhile share one.
func (p *proxy) rebind(ctx context.Context, who caller, lost *binding) (*binding, error) {
	select {
	case p.flight <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-p.flight }()
	if b := p.cur.Load(); b != lost {
		return b, nil
	}
	for {
		b, err := p.adopt(ctx, lost)
		if b == nil && err == nil {
			b, err = p.renew(ctx, who)
		}
		if errors.Is(err, engine.ErrClaimLost) {
			continue // the winner's is recorded or will be; a local one's replica is then found to be alive
		}
		if err != nil {
			return nil, err
		}
		p.bind(b)
		return b, nil
	}
}

// adopt returns the recorded binding, if there is a usable one other than lost; nil otherwise.
func (p *proxy) adopt(ctx context.Context, lost *binding) (*binding, error) {
	giveUp := time.Now().Add(claimPatience)
	for {
		rec, err := p.s.Binding(ctx)
		switch {
		case err != nil:
			return nil, err
		case !p.shared(), rec.Epoch == 0, lost != nil && rec.Epoch <= lost.epoch, rec.Epoch == p.claimed:
			return nil, nil
		case rec.Upstream != "" || rec.Epoch == 1:
			b := &binding{epoch: rec.Epoch, id: rec.Upstream}
			b.proven.Store(p.provenance(lost))
			b.conn, err = p.w.o.Upstream.Connect(ctx, p.s)
			return b, err
		case rec.Replica == p.w.o.Replica && !p.w.claims.underway(p.s.Ref()), time.Now().After(giveUp):
			return nil, nil
		}
		if err := sleep(ctx, claimPoll); err != nil {
			return nil, err
		}
	}
}

// provenance returns the era in which a recorded binding was last known to be good: now, if it has taken the place
// of lost; else as far as its place in the journal tells.
func (p *proxy) provenance(lost *binding) uint64 {
	st, _ := p.s.State()
	if lost != nil {
		p.w.health.renewed(st.BoundAt.Seq)
		return p.w.health.era.Load()
	}
	return p.w.health.boundAt(st.BoundAt.Seq)
}

// renew claims the next epoch and opens an upstream session for it. p.flight is held.
func (p *proxy) renew(ctx context.Context, who caller) (*binding, error) {
	if err := p.slowDown(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	p.w.claims.begin(p.s.Ref())
	defer p.w.claims.end(p.s.Ref())
	if err := p.claim(ctx); err != nil {
		return nil, err
	}
	if err := p.w.settle(ctx, p.s.Ref()); err != nil {
		return nil, err
	}
	conn, err := p.w.o.Upstream.Connect(ctx, p.s)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	b := &binding{epoch: p.claimed, conn: conn}
	b.proven.Store(p.w.health.era.Load())
	if err := p.reopen(ctx, who, b); err != nil {
		_ = conn.Close() // nothing to save
		return nil, err
	}
	p.claimed = 0
	if st, ok := p.s.State(); ok {
		p.w.health.renewed(st.BoundAt.Seq)
	}
	p.renewed(b, time.Since(start))
	return b, nil
}

// claim takes the epoch after the recorded one, unless that is claimed here and not used yet.
func (p *proxy) claim(ctx context.Context) error {
	rec, err := p.s.Binding(ctx)
	if err != nil {
		return err
	}
	if p.claimed != 0 && rec.Epoch == p.claimed {
		return nil
	}
	was, err := p.w.mayClaim(ctx, rec)
	if err != nil {
		return err
	}
	if p.claimed, err = p.s.Claim(ctx, rec.Epoch); err != nil {
		p.claimed = 0
		return err
	}
	if p.w.local() && was.Place != replicas.Here {
		p.w.took(p.s.Ref(), replicas.Claim{From: rec.Replica, Was: was, Seq: p.s.ClaimedAt(p.claimed), Since: time.Now()})
	}
	return nil
}

// reopen does the handshake for b and records it.
func (p *proxy) reopen(ctx context.Context, who caller, b *binding) error {
	hs, err := p.handshake(ctx, who, b)
	if err != nil {
		return err
	}
	b.id = hs.id
	if err := p.s.Bind(ctx, b.epoch, hs.id); err != nil {
		p.w.forsake(ctx, b, hs.protocol, who)
		return err
	}
	p.announce(hs)
	return nil
}

// slowDown waits when the session was initialized again only just before. p.flight is held.
func (p *proxy) slowDown(ctx context.Context) error {
	wait := p.pace.wait(time.Now(), p.w.health.boots())
	if wait == 0 || !p.shared() {
		return nil
	}
	return sleep(ctx, wait/2+jitter(wait))
}

// jitter returns a random duration below d, which must be positive.
func jitter(d time.Duration) time.Duration {
	return rand.N(d) //nolint:gosec // spreads load; nothing secret
}

// renewed notes that the session was initialized again. p.flight is held.
func (p *proxy) renewed(b *binding, took time.Duration) {
	log := &p.w.o.Logger
	log.Info().Stringer("session", p.s.Ref()).Uint64("epoch", uint64(b.epoch)).Dur("took", took).
		Msg("session initialized again at the upstream")
	if runs := p.pace.done(time.Now()); runs == 3 && p.shared() {
		log.Warn().Stringer("session", p.s.Ref()).Int("times", runs).
			Msg("the upstream keeps losing this session: do two clients of one tenant evict each other there?")
	}
}

// sleep waits for d; it returns ctx's cause if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// known reports whether err says what to answer, so that it must not be retried.
func known(err error) bool {
	var prob *problem
	var ref *refusal
	return errors.Is(err, errMoved) || errors.Is(err, replicas.ErrCutOff) || errors.As(err, &prob) || errors.As(err, &ref) || errors.Is(err, engine.ErrUnknownSession) ||
		errors.Is(err, journal.ErrUnavailable)
}
