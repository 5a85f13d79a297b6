package gateway

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// timed is quotas whose clock the test sets.
func timed(o Limits) (*quotas, func(time.Duration)) {
	if err := o.complete(); err != nil {
		panic(err)
	}
	l, now := newQuotas(o), time.Unix(1e9, 0)
	l.now = func() time.Time { return now }
	return l, func(d time.Duration) { now = now.Add(d) }
}

func who(principal string, tenant byte) *engine.Caller {
	return &engine.Caller{Principal: journal.Principal(principal), Tenant: journal.TenantID{tenant}}
}

func TestLimiter(t *testing.T) {
	l, pass := timed(Limits{PerTenant: Rate{N: 4, Per: time.Second}, PerPrincipal: Rate{N: 2, Per: time.Second}})
	try := func(what string, c *engine.Caller, n int, want bool) {
		t.Helper()
		err := l.request(c, n)
		if p, limited := errors.AsType[*problem](err); (err == nil) != want || limited && (p.status != 429 || p.retryAfter < 1) {
			t.Errorf("%s: %v", what, err)
		}
	}
	alice, bob, carol, dave := who("alice", 1), who("bob", 1), who("carol", 1), who("dave", 2)
	try("alice", alice, 1, true)
	try("alice", alice, 1, true)
	try("alice, beyond her share", alice, 1, false)
	try("bob", bob, 2, true)
	try("carol: the tenant's share is used up", carol, 1, false)
	try("dave, of another tenant", dave, 2, true)
	try("nobody is told apart", who("", 0), 1000, true)
	pass(500 * time.Millisecond)
	try("alice, half a second later", alice, 1, true)
	try("alice, who has no more", alice, 1, false)
	pass(time.Hour)
	try("a batch beyond the share takes all of it", alice, 100, true)
	try("alice, after the batch", alice, 1, false)
	if done, err := l.reserve(alice, true, 1); err != nil {
		t.Errorf("initialize has a share of its own: %v", err)
	} else {
		done(true)
	}
}

// What was not accepted does not count; while it is not known, it does.
func TestLimiterCountsWhatIsAccepted(t *testing.T) {
	l, pass := timed(Limits{PerTenant: Rate{N: 2, Per: time.Minute}})
	var open []func(bool)
	for i := range 4 {
		done, err := l.reserve(who(strconv.Itoa(i), 1), true, 1)
		if (err == nil) != (i < 2) {
			t.Errorf("%d: %v", i, err)
		}
		if err == nil {
			open = append(open, done)
		}
	}
	for range 100 {
		open[0](false)
		open[1](false)
		for i := range open {
			done, err := l.reserve(who("x", 1), true, 1)
			if err != nil {
				t.Fatalf("those who were refused used the share up: %v", err)
			}
			open[i] = done
		}
	}
	open[0](true)
	open[1](true)
	_, err := l.reserve(who("x", 1), true, 1)
	if p, ok := errors.AsType[*problem](err); !ok || p.retryAfter != 30 {
		t.Errorf("%+v", err)
	}
	pass(30 * time.Second)
	if _, err := l.reserve(who("x", 1), true, 1); err != nil {
		t.Error(err)
	}
}

// However many callers there are, memory is bounded.
func TestLimiterIsBounded(t *testing.T) {
	l, _ := timed(Limits{PerPrincipal: Rate{N: 1, Per: time.Hour}, Tracked: 100})
	for i := range 10_000 {
		if err := l.request(who(strconv.Itoa(i), 0), 1); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.shares) != 100 || l.used.Len() != 100 {
		t.Errorf("%d shares, %d in the list", len(l.shares), l.used.Len())
	}
	if l.request(who("9999", 0), 1) == nil {
		t.Error("the last one is forgotten")
	}
}

func TestLimitsAreChecked(t *testing.T) {
	for _, o := range []Limits{{PerTenant: Rate{N: -1, Per: 1}}, {PerPrincipal: Rate{N: 1}}, {PerTenant: Rate{Per: 1}}, {Tracked: -1}} {
		if o.complete() == nil {
			t.Errorf("%+v: taken", o)
		}
	}
}
