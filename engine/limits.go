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

	mu      sync.Mutex
	under   map[journal.Ref]journal.TenantID // reserved: not folded yet, or folded a moment ago
	tenants map[journal.TenantID]int         // how many of them a tenant has
}

// limitError is an ErrSessionLimit.
type limitError struct {
	what       string
	count, max int
	all        bool // the limit on all sessions, not on a tenant's
}

func (l *limitError) Error() string {
	return fmt.Sprintf("%v: %d of %d sessions %s", ErrSessionLimit, l.count, l.max, l.what)
}

func (l *limitError) Unwrap() error { return ErrSessionLimit }

// reserve makes room for one session until release. It fails with a *limitError.
func (l *limits) reserve(t Table, ref journal.Ref, tenant journal.TenantID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	t.View(func(st *replay.State) { err = l.check(st, tenant) })
	if err != nil {
		return err
	}
	l.under[ref] = tenant
	l.tenants[tenant]++
	return nil
}

func (l *limits) release(refs ...journal.Ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ref := range refs {
		t, ok := l.under[ref]
		if !ok {
			continue
		}
		delete(l.under, ref)
		if l.tenants[t]--; l.tenants[t] == 0 {
			delete(l.tenants, t)
		}
	}
}

func (l *limits) check(st *replay.State, tenant journal.TenantID) error {
	all, each := st.Len()+len(l.under), st.TenantLen(tenant)+l.tenants[tenant]
	if all < l.total && (l.each == 0 || each < l.each) {
		return nil
	}
	// At a limit it must be exact: what is folded and not yet released was counted twice.
	for ref, t := range l.under {
		if _, folded := st.Session(ref); folded {
			all--
			if t == tenant {
				each--
			}
		}
	}
	if all >= l.total {
		return &limitError{"in all", all, l.total, true}
	}
	if l.each > 0 && each >= l.each {
		return &limitError{"of this tenant", each, l.each, false}
	}
	return nil
}
