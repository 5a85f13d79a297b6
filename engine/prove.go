package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Unproven reports whether the caller has presented another credential than the session's, which only the upstream can
// check. Such a caller gets nothing until the upstream has accepted the credential on this very session, and must not make
// it be opened again; then call Prove.
func (l *Lease) Unproven() bool { return l.unproven }

// Prove notes that the upstream has accepted c's credential on this session, and journals it as the session's from now on.
// Where credentials change all the time it stays at noting. It fails as Change does.
func (l *Lease) Prove(ctx context.Context, c Caller) error {
	l.unproven = false
	if !l.e.damper.allow(l.entry.ref) {
		return nil
	}
	if err := l.Session().Change(ctx, Changes{Principal: c.Principal}); err != nil {
		return fmt.Errorf("new credential: %w", err)
	}
	send(l.e.security("credentials_changed").Stringer("session", l.entry.ref).Stringer("tenant", c.Tenant), "credentials_changed")
	return nil
}

// damper bounds how often the credentials of one session change: a few times at once, and then every changePause. An owner
// who alternates between two of them must not fill the journal. Safe for concurrent use.
type damper struct {
	mu sync.Mutex
	by map[journal.Ref]*rate.Limiter // of sessions whose credentials have changed of late
}

const (
	changeBurst = 3
	changePause = 20 * time.Second
	maxDamped   = 4096
)

// allow reports whether one more change of credentials is journaled.
func (d *damper) allow(ref journal.Ref) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.by) >= maxDamped {
		d.prune()
	}
	if d.by == nil {
		d.by = make(map[journal.Ref]*rate.Limiter)
	}
	l := d.by[ref]
	if l == nil {
		l = rate.NewLimiter(rate.Every(changePause), changeBurst)
		d.by[ref] = l
	}
	return l.Allow()
}

// prune forgets those that have been quiet, which changes nothing; if that is not enough, all. d.mu is held.
func (d *damper) prune() {
	now := time.Now()
	for ref, l := range d.by {
		if l.TokensAt(now) >= changeBurst {
			delete(d.by, ref)
		}
	}
	if len(d.by) >= maxDamped/2 {
		clear(d.by)
	}
}
