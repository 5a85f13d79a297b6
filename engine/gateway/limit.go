package gateway

import (
	"container/list"
	"errors"
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dormouse-mcp/dormouse/engine"
)

// Rate is how many requests are let through: N within Per, evenly or at once. The zero Rate is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

func (r Rate) limiter() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(r.N)/r.Per.Seconds()), r.N)
}

func (r Rate) valid() bool { return r == Rate{} || r.N > 0 && r.Per > 0 }

// Limits bounds how many requests callers make. A request counts for its session's owner only once it is known to be the
// owner's: who names an unknown session, or somebody else's, uses up nobody's share. initialize has shares of its own, so that
// sessions that are gone, and busy ones, keep nobody from opening a new one.
//
// Each message of a batch counts. DELETE never does.
type Limits struct {
	PerTenant    Rate
	PerPrincipal Rate

	// Tracked bounds how many shares are remembered; 0 = 20,000. Beyond it the one that was used least recently is
	// forgotten, and begins anew.
	Tracked int
}

func (l *Limits) complete() error {
	if !l.PerTenant.valid() || !l.PerPrincipal.valid() || l.Tracked < 0 {
		return errors.New("gateway options: a rate limit is negative or has no time")
	}
	if l.Tracked == 0 {
		l.Tracked = 20_000
	}
	return nil
}

// quotas keeps the shares. Safe for concurrent use.
type quotas struct {
	o   Limits
	now func() time.Time

	mu     sync.Mutex
	shares map[shareKey]*list.Element
	used   list.List // of *share, the most recently used in front
}

// shareKey names a share. A tenant's and a principal's never are the same.
type shareKey struct {
	initialize bool
	principal  string
	tenant     [16]byte
}

type share struct {
	key      shareKey
	bucket   *rate.Limiter
	underway int // sessions being opened, which will count if they come about
}

func newQuotas(o Limits) *quotas {
	return &quotas{o: o, now: time.Now, shares: make(map[shareKey]*list.Element)}
}

// request counts n messages of a caller who has been found to own the session. The error is a *problem.
func (l *quotas) request(c *engine.Caller, n int) error {
	if l.off() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	shares := l.of(c, false)
	for _, s := range shares {
		if err := s.full(now, n); err != nil {
			return err
		}
	}
	for _, s := range shares {
		s.take(now, n)
	}
	return nil
}

// reserve makes room for n messages of a caller who may be anybody who merely names a tenant: a new session, or a request
// without one. They count when they have been accepted: call what is returned.
func (l *quotas) reserve(c *engine.Caller, initialize bool, n int) (done func(ok bool), err error) {
	if l.off() {
		return func(bool) {}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	shares := l.of(c, initialize)
	for _, s := range shares {
		if err := s.full(now, n); err != nil {
			return nil, err
		}
	}
	for _, s := range shares {
		s.underway += n
	}
	return func(ok bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, s := range shares {
			if s.underway -= n; ok {
				s.take(l.now(), n)
			}
		}
	}, nil
}

func (l *quotas) off() bool { return l.o.PerTenant.N == 0 && l.o.PerPrincipal.N == 0 }

// of returns the caller's shares. l.mu is held.
func (l *quotas) of(c *engine.Caller, initialize bool) []*share {
	var room [2]*share
	shares := room[:0]
	if l.o.PerPrincipal.N > 0 && c.Principal != "" {
		shares = append(shares, l.share(shareKey{initialize: initialize, principal: string(c.Principal)}, l.o.PerPrincipal))
	}
	if l.o.PerTenant.N > 0 && c.Tenant != [16]byte{} {
		shares = append(shares, l.share(shareKey{initialize: initialize, tenant: c.Tenant}, l.o.PerTenant))
	}
	return shares
}

func (l *quotas) share(key shareKey, r Rate) *share {
	if e, ok := l.shares[key]; ok {
		l.used.MoveToFront(e)
		return e.Value.(*share)
	}
	if len(l.shares) >= l.o.Tracked {
		oldest := l.used.Back()
		delete(l.shares, oldest.Value.(*share).key)
		l.used.Remove(oldest)
	}
	s := &share{key: key, bucket: r.limiter()}
	l.shares[key] = l.used.PushFront(s)
	return s
}

// full returns the answer for n messages that are too many just now, or nil.
func (s *share) full(now time.Time, n int) error {
	n = min(n, s.bucket.Burst()) // a batch that is larger than the share takes all of it
	missing := float64(n+s.underway) - s.bucket.TokensAt(now)
	if missing <= 0 {
		return nil
	}
	why := DeniedTenantRate
	if s.key.principal != "" {
		why = DeniedPrincipalRate
	}
	p := refuse(http.StatusTooManyRequests, codeRateLimit, "Too many requests").because(why)
	p.retryAfter = max(1, int(math.Ceil(missing/float64(s.bucket.Limit()))))
	return p
}

func (s *share) take(now time.Time, n int) { s.bucket.AllowN(now, min(n, s.bucket.Burst())) }

// countStateless counts a request without a session when its answer begins and the upstream has not refused it: that may be
// long before the answer ends.
func (g *Gateway) countStateless(c *engine.Caller, a *answer) error {
	counted, err := g.quotas.reserve(c, false, len(a.payload.msgs))
	if err != nil {
		g.tellLimited(c)
		return err
	}
	a.started = func(status int) { counted(status < http.StatusBadRequest) }
	return nil
}

// tellLimited tells the log that a caller was limited, now and then: it must not be flooded by whoever is.
func (g *Gateway) tellLimited(c *engine.Caller) {
	if g.telling.Allow() {
		g.o.Logger.Warn().Bool("security", true).Str("event", "rate_limited").Stringer("tenant", c.Tenant).Msg("[SECURITY] rate_limited")
	}
}
