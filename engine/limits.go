package engine

import (
	"fmt"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// limits counts sessions for create and restore alike: those that are folded, whoever made them, and
// those that this engine is making. What other replicas are making just now is not known, so with several
// replicas a limit may be passed by as many.
type limits struct {
	total, each int
	own         int // of one principal; 0 = no limit

	mu         sync.Mutex
	under      map[journal.Ref]reserved // not folded yet, or folded a moment ago
	tenants    map[journal.TenantID]int // how many of them a tenant has
	principals map[journal.Principal]int
}

// reserved is for whom there is room.
type reserved struct {
	tenant    journal.TenantID
	principal journal.Principal // empty where nobody is told apart, or none is known yet
}

func newLimits(total, each, own int) limits {
	return limits{
		total: total, each: each, own: own,
		under: map[journal.Ref]reserved{}, tenants: map[journal.TenantID]int{}, principals: map[journal.Principal]int{},
	}
}

// limitError is an ErrSessionLimit.
type limitError struct {
	what       string
	count, max int
	all        bool // the limit on all sessions, not on a tenant's or a principal's
}

func (l *limitError) Error() string {
	return fmt.Sprintf("%v: %d of %d sessions %s", ErrSessionLimit, l.count, l.max, l.what)
}

func (l *limitError) Unwrap() error { return ErrSessionLimit }

// reserve makes room for one session until release. It fails with a *limitError.
func (l *limits) reserve(t Table, ref journal.Ref, who reserved) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	t.View(func(st *replay.State) { err = l.check(st, who) })
	if err != nil {
		return err
	}
	l.under[ref] = who
	l.tenants[who.tenant]++
	l.principals[who.principal]++
	return nil
}

func (l *limits) release(refs ...journal.Ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ref := range refs {
		who, ok := l.under[ref]
		if !ok {
			continue
		}
		delete(l.under, ref)
		if l.tenants[who.tenant]--; l.tenants[who.tenant] == 0 {
			delete(l.tenants, who.tenant)
		}
		if l.principals[who.principal]--; l.principals[who.principal] == 0 {
			delete(l.principals, who.principal)
		}
	}
}

func (l *limits) check(st *replay.State, who reserved) error {
	all, each, own := st.Len()+len(l.under), st.TenantLen(who.tenant)+l.tenants[who.tenant], 0
	if l.own > 0 && who.principal != "" {
		own = st.PrincipalLen(who.principal) + l.principals[who.principal]
	}
	if all < l.total && (l.each == 0 || each < l.each) && (l.own == 0 || own < l.own) {
		return nil
	}
	// At a limit it must be exact: what is folded and not yet released was counted twice.
	for ref, r := range l.under {
		if _, folded := st.Session(ref); folded {
			all--
			if r.tenant == who.tenant {
				each--
			}
			if r.principal == who.principal {
				own--
			}
		}
	}
	switch {
	case all >= l.total:
		return &limitError{"in all", all, l.total, true}
	case l.each > 0 && each >= l.each:
		return &limitError{"of this tenant", each, l.each, false}
	case l.own > 0 && own >= l.own:
		return &limitError{"of this principal", own, l.own, false}
	}
	return nil
}
