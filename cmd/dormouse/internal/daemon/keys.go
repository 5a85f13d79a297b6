package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

func (d *daemon) rotate(ctx context.Context, q control.RotateQuery) (control.Rotated, error) {
	r, err := d.store.Rotate(ctx, q)
	what := "keys rotated; back the key file up again"
	if r.Prepared {
		what = "keys prepared; every replica is to have them before they are rotated"
	}
	for _, x := range r.Rings {
		d.log.Info().Err(err).Str("ring", x.Ring).Str("from", x.From).Str("to", x.To).Int("wrapped", r.Wrapped).Msg(what)
	}
	return r, err
}

// eraseTenant erases a tenant and drops what its sessions have here: their clients get 404 from then on.
func (d *daemon) eraseTenant(ctx context.Context, t journal.TenantID, who string) (control.Erased, error) {
	e, err := d.store.EraseTenant(ctx, t, who)
	d.engine.DropEnded()
	d.log.Warn().Bool("security", true).Str("event", "tenant_erased").Err(err).Stringer("tenant", t).Str("who", who).
		Int("sessions", e.Sessions).Strs("keys", e.Keys).Int("deleted", e.Deleted).Msg("[SECURITY] tenant_erased")
	return e, err
}

// reloadKeys goes over to what the key file says now.
func (d *daemon) reloadKeys(ctx context.Context) {
	if d.c.Store.Keys != "" {
		return // nothing can have changed
	}
	changed, wrapped, err := d.store.Reload(ctx)
	switch {
	case err != nil:
		l := d.log.Error().Err(err)
		if r, ok := errors.AsType[*control.RefusedError](err); ok {
			l = l.Str("hint", r.Hint)
		}
		l.Msg("key file read again, and not all is well")
	case changed:
		k := d.store.Keyring()
		d.log.Info().Str("journal", string(k.Current(seal.RingJournal))).Str("tenant", string(k.Current(seal.RingTenant))).Int("wrapped", wrapped).
			Msg("key file read again: these keys seal from now on")
	default:
		d.log.Info().Msg("key file read again: nothing new")
	}
}

// keysFound says that the keyring's file should be read again. It never waits.
func (d *daemon) keysFound() {
	select {
	case d.newKeys <- struct{}{}:
	default:
	}
}

// tendKeys ends what interrupted rotations and erasures have left, at the start and whenever an erasure was folded,
// and reads the key file again when keys were found in it, until ctx ends.
func (d *daemon) tendKeys(ctx context.Context) {
	d.resumeErasures(ctx)
	if n, err := d.store.ResumeKeys(ctx); err != nil && ctx.Err() == nil {
		d.log.Error().Err(err).Msg("a rotation was interrupted, and cannot go on: some tenants' keys are not under the current key of the tenant ring")
	} else if n > 0 {
		d.log.Info().Int("wrapped", n).Msg("an interrupted rotation is complete")
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	seen := d.erasures()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.newKeys:
			d.reloadKeys(ctx)
		case <-tick.C:
			if n := d.erasures(); n != seen {
				seen = n
				d.resumeErasures(ctx)
			}
		}
	}
}

func (d *daemon) resumeErasures(ctx context.Context) {
	if n, err := d.store.ResumeErasures(ctx); err != nil && ctx.Err() == nil {
		d.log.Error().Err(err).Msg("an erasure was interrupted, and cannot go on: start again")
	} else if n > 0 {
		d.log.Warn().Int("keys", n).Msg("an interrupted erasure is complete")
	}
}

// erasures counts the erasures that were folded.
func (d *daemon) erasures() (n uint64) {
	d.store.Follower.View(func(st *replay.State) { n = st.Stats().Accepted[journal.KindTenantErased] })
	return n
}
