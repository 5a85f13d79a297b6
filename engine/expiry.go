package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

const (
	// sweepChunk is how many sessions one Append ends at most.
	sweepChunk = 500
	// foreignMargin is how much longer a sweep waits for sessions that are bound to another replica, which
	// will expire them itself unless it is dead.
	foreignMargin = 10 * time.Second
	// probeTimeout is after how long without an answer a sweep takes the stream for out of reach.
	probeTimeout = 5 * time.Second
)

// expiry is one session to expire, and its last access as far as we know.
type expiry struct {
	ref   journal.Ref
	basis journal.Instant
}

// ExpireDue expires all sessions that have timed out and are not in use here, whichever replica they are
// bound to, and returns how many that were. Call it after a restore, before the first request is served.
// During an outage's grace period it does nothing.
func (e *Engine) ExpireDue(ctx context.Context) (n int, err error) {
	return e.expireDue(ctx, 0)
}

func (e *Engine) expireDue(ctx context.Context, margin time.Duration) (n int, err error) {
	select {
	case e.expiring <- struct{}{}:
		defer func() { <-e.expiring }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	now := time.Now()
	if !e.outage.over(now) {
		return 0, nil
	}
	for chunk := range slices.Chunk(e.due(now, margin), sweepChunk) {
		ended, err := e.expire(ctx, chunk)
		n += ended
		if err != nil {
			return n, fmt.Errorf("expire sessions: %w", err)
		}
	}
	return n, nil
}

// due lists what has timed out.
func (e *Engine) due(now time.Time, margin time.Duration) []expiry {
	var due []expiry
	at := journal.InstantOf(now)
	e.o.Table.View(func(st *replay.State) {
		for s := range st.Due(at) {
			if s.Replica == e.o.Replica || s.Replica == "" || s.Expires().Add(margin) <= at {
				due = append(due, expiry{s.Ref, s.LastAccess})
			}
		}
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(due, func(d expiry) bool {
		en := e.entries[d.ref]
		return en != nil && en.busy(d.basis, at)
	})
}

// busy reports whether the session is leased here, or was accessed by a request whose event is not folded
// yet. Engine.mu is held.
func (en *entry) busy(folded, now journal.Instant) bool {
	return en.leases > 0 || en.accessed(folded).Add(en.timeout) > now
}

func (e *Engine) inUse(s *replay.Session, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	en := e.entries[s.Ref]
	return en != nil && en.busy(s.LastAccess, journal.InstantOf(now))
}

// expire journals the expiry of at most sweepChunk sessions and returns how many of them are no more. An
// access that was stored before wins.
func (e *Engine) expire(ctx context.Context, due []expiry) (n int, err error) {
	at := journal.InstantOf(time.Now())
	events := make([]journal.Event, len(due))
	for i, d := range due {
		events[i] = journal.Event{Kind: journal.KindExpired, Ref: d.ref, At: at, Basis: d.basis}
	}
	if _, err := e.commit(ctx, events...); err != nil {
		return 0, err
	}
	for _, d := range due {
		if _, ok := e.look(d.ref); ok {
			continue
		}
		n++
		e.ended(d.ref)
		e.o.Observer.SessionEnded(journal.KindExpired, 0)
	}
	return n, nil
}

// keepExpiring sweeps until ctx ends. It may wait for the stream; keepHouse never does.
func (e *Engine) keepExpiring(ctx context.Context) {
	tick := time.NewTicker(e.tick())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.sweep(ctx)
		}
	}
}

func (e *Engine) sweep(ctx context.Context) {
	e.closeOrphans(ctx)
	now := time.Now()
	if !e.anyDue(now) && !e.outage.silent(now) {
		return
	}
	// By the leader's word first: what looks due here may have been accessed elsewhere.
	if err := e.probe(ctx); err != nil {
		e.outage.note(time.Now())
		e.log.Debug().Err(err).Msg("stream out of reach: nothing expires")
		return
	}
	e.outage.good(time.Now())
	n, err := e.expireDue(ctx, foreignMargin)
	switch {
	case err != nil:
		e.log.Warn().Err(err).Int("expired", n).Msg("expiry sweep")
	case n > 0:
		e.log.Info().Int("expired", n).Msg("sessions expired")
	}
}

func (e *Engine) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return e.o.Table.CatchUp(ctx)
}

func (e *Engine) anyDue(now time.Time) (due bool) {
	e.o.Table.View(func(st *replay.State) {
		for range st.Due(journal.InstantOf(now)) {
			due = true
			return
		}
	})
	return due
}
