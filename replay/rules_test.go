package replay_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// One test for each row of the table in the architecture page, "The fold decides".

func TestCreated(t *testing.T) {
	s := newScene(t)
	s.want(replay.RefusedUnknown, accessed(0))
	s.want("", created())
	want := replay.Session{
		Ref: ref, Source: journal.SourceClient, Position: journal.Position{Seq: 2},
		CreatedAt: replaytest.Start, LastAccess: replaytest.Start, Timeout: 30 * time.Minute,
		Tenant: tenant, Label: "label", URLHash: url, Principal: "principal",
		ID: journal.Sealed("id"), IDKey: "k1", Context: journal.Sealed("context"), ContextKey: "k1",
		Fingerprint: journal.Fingerprint{3}, Initialize: json.RawMessage(`{}`), Protocol: "2025-06-18",
	}
	if diff := compareSessions(s.session(), want); diff != "" {
		t.Fatal(diff)
	}
	s.want(replay.RefusedPresent, created())
	s.want("", closed(journal.ReasonClient, 0))
	s.want(replay.RefusedEnded, created())
	if !s.state.Ended(ref) || s.state.Len() != 0 {
		t.Fatalf("ended %v, %d sessions", s.state.Ended(ref), s.state.Len())
	}
}

func TestCreatedMalformed(t *testing.T) {
	s := newScene(t)
	for name, e := range map[string]journal.Event{
		"no source":      created(func(c *journal.Created) { c.Source = 0 }),
		"no timeout":     created(timeout(0)),
		"a long timeout": created(timeout(replay.MaxTimeout + time.Millisecond)),
		"no ref":         {Kind: journal.KindCreated, Created: created().Created},
	} {
		if got := s.fold(e)[0]; got != replay.RefusedMalformed {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestEndedIsForgottenAfterItsTime(t *testing.T) {
	s := newScene(t)
	s.want("", created())
	s.want("", closed(journal.ReasonAdmin, 0))
	s.pass(30*time.Minute + replay.EndedMargin - time.Millisecond)
	s.want(replay.RefusedEnded, created())
	s.pass(time.Millisecond)
	s.want("", created())
}

func TestImports(t *testing.T) {
	s := newScene(t)
	past := s.now.Add(-29 * time.Minute)
	s.want(replay.RefusedExpired, created(imported(s.now.Add(-30*time.Minute))))
	s.want("", created(imported(past)))
	if got := s.session(); got.LastAccess != past || got.CreatedAt != past {
		t.Fatalf("created %v, accessed %v; exported with %v", got.CreatedAt, got.LastAccess, past)
	}
	s.want(replay.RefusedPresent, created(imported(past)))
	s.want("", closed(journal.ReasonClient, 0))
	s.want(replay.RefusedEnded, created(imported(past)))
}

func TestImportFromTheFutureIsFromNow(t *testing.T) {
	s := newScene(t)
	s.want("", created(imported(s.now.Add(10*365*24*time.Hour))))
	if got := s.session().LastAccess; got != s.now {
		t.Fatalf("last access %v, journal time %v", got, s.now)
	}
}

// The session ended under a short timeout and is forgotten. An old export under a longer timeout would
// bring it back.
func TestImportOlderThanMemory(t *testing.T) {
	s := newScene(t)
	export := s.now
	s.want("", created(timeout(time.Minute)))
	s.want("", closed(journal.ReasonClient, 0))
	s.pass(24 * time.Hour)
	s.want(replay.RefusedForgotten, created(imported(export), timeout(48*time.Hour)))
	s.want("", created(imported(export.Add(time.Millisecond)), timeout(48*time.Hour)))
}

func TestAccess(t *testing.T) {
	s := newScene(t)
	s.want("", created())
	for _, kind := range []journal.Kind{journal.KindOpened, journal.KindAccessed, journal.KindTouched} {
		s.pass(time.Minute)
		s.want("", journal.Event{Kind: kind, Ref: ref})
		if got := s.session().LastAccess; got != s.now {
			t.Fatalf("%v: last access %v, want %v", kind, got, s.now)
		}
	}
	if got := s.session().Calls; got != 1 {
		t.Fatalf("%d calls", got)
	}
	s.want("", bound(1, "a", ""))
	s.want("", bound(2, "a", ""))
	s.want(replay.RefusedEpoch, accessed(1))
	s.want("", accessed(2))
	s.want("", accessed(0))
	if got := s.session().Calls; got != 3 {
		t.Fatalf("%d calls", got)
	}
}

func TestAccessClocks(t *testing.T) {
	s := newScene(t)
	s.want("", created())
	at := func(d time.Duration) journal.Event {
		e := accessed(0)
		e.At = s.now.Add(d)
		return e
	}
	s.pass(20 * time.Minute)
	for _, c := range []struct {
		name string
		at   time.Duration
		want time.Duration
	}{
		{"hours behind", -3 * time.Hour, -replay.AccessLag},
		{"a minute ago", -time.Minute, -time.Minute},
		{"older than the last", -2 * time.Minute, -time.Minute},
		{"years ahead", 10 * 365 * 24 * time.Hour, 0},
	} {
		s.want("", at(c.at))
		if got := s.session().LastAccess.Sub(s.now); got != c.want {
			t.Errorf("%s: last access %v from now, want %v", c.name, got, c.want)
		}
	}
}

func TestJournalTimeNeverGoesBack(t *testing.T) {
	s := newScene(t)
	s.want("", created())
	s.pass(-time.Hour)
	s.want("", accessed(0))
	if got := s.state.Now(); got != replaytest.Start {
		t.Fatalf("journal time %v", got)
	}
}

func TestChanged(t *testing.T) {
	s := newScene(t)
	s.want("", created())
	s.want("", bound(1, "a", ""))
	s.want(replay.RefusedEpoch, changed(0))
	s.want(replay.RefusedTenant, changed(1, func(c *journal.Changed) { c.Tenant = journal.TenantID{9} }))
	s.want(replay.RefusedURL, changed(1, func(c *journal.Changed) { c.URLHash = journal.URLHash{9} }))
	before := s.session()
	s.want("", changed(1, func(c *journal.Changed) {
		c.Context, c.Key, c.Fingerprint = journal.Sealed("newer"), "k2", journal.Fingerprint{4}
		c.LogLevel, c.Subscribed = "debug", []string{"b", "a", "b"}
	}))
	s.want("", changed(1, func(c *journal.Changed) {
		c.Principal, c.Initialize, c.Protocol = "else", json.RawMessage(`{"x":1}`), "2025-11-25"
		c.Subscribed, c.Unsubscribed = []string{"c"}, []string{"a", "z"}
	}))
	want := before
	want.Context, want.ContextKey, want.Fingerprint = journal.Sealed("newer"), "k2", journal.Fingerprint{4}
	want.LogLevel, want.Subscriptions = "debug", []string{"b", "c"}
	want.Principal, want.Initialize, want.Protocol = "else", json.RawMessage(`{"x":1}`), "2025-11-25"
	if diff := compareSessions(s.session(), want); diff != "" {
		t.Fatal(diff)
	}
	if string(before.Context) != "context" || string(before.Initialize) != "{}" {
		t.Fatalf("a copy changed: %+v", before)
	}
}

func TestBound(t *testing.T) {
	s := newScene(t)
	s.want("", created())
	s.want(replay.RefusedBinding, bound(0, "a", "u0"))
	s.want(replay.RefusedClaim, bound(0, "a", ""))
	s.want(replay.RefusedClaim, bound(2, "a", ""))
	s.want("", bound(1, "a", ""))
	s.want(replay.RefusedClaim, bound(1, "b", ""))
	s.want(replay.RefusedBinding, bound(1, "b", "u1"))
	s.want("", bound(1, "a", "u1"))
	s.want(replay.RefusedBinding, bound(1, "a", "u2"))
	got := s.session()
	if got.Epoch != 1 || got.Replica != "a" || string(got.Upstream) != "u1" || got.UpstreamKey != "k1" || got.BoundAt.Seq != 5 {
		t.Fatalf("%+v", got)
	}
	s.want("", bound(2, "b", ""))
	if got := s.session(); len(got.Upstream) > 0 || got.Replica != "b" {
		t.Fatalf("the claim left the old binding: %+v", got)
	}
	s.want(replay.RefusedEpoch, bound(1, "a", "u1"))
	s.want("", bound(3, "a", "u3"))
	if got := s.session(); got.Epoch != 3 || string(got.Upstream) != "u3" {
		t.Fatalf("claim and record in one: %+v", got)
	}
	s.want(replay.RefusedBinding, bound(5, "a", "u5"))
}

func TestExpired(t *testing.T) {
	s := newScene(t)
	s.want("", created())
	s.want(replay.RefusedNotDue, expired(replaytest.Start))
	s.pass(time.Minute)
	s.want("", accessed(0))
	s.pass(30*time.Minute - time.Millisecond)
	s.want(replay.RefusedAccessed, expired(replaytest.Start))
	s.want(replay.RefusedNotDue, expired(s.session().LastAccess))
	s.pass(time.Millisecond)
	s.want(replay.RefusedAccessed, expired(replaytest.Start))
	due := slices.Collect(s.state.Due(s.now))
	if len(due) != 1 || due[0].Ref != ref {
		t.Fatalf("due: %v", due)
	}
	s.want("", expired(due[0].LastAccess))
	s.want(replay.RefusedEnded, expired(due[0].LastAccess))
	s.want(replay.RefusedEnded, accessed(0))
}

func TestClosed(t *testing.T) {
	for why, want := range map[journal.Reason]replay.Refusal{
		0: replay.RefusedMalformed, journal.ReasonClient: "", journal.ReasonAdmin: "", journal.ReasonErased: "",
		journal.ReasonEvicted: replay.RefusedEpoch, 200: replay.RefusedEpoch,
	} {
		s := newScene(t)
		s.want("", created())
		s.want("", bound(1, "a", ""))
		s.want(want, closed(why, 0))
	}
	s := newScene(t)
	s.want("", created())
	s.want("", bound(1, "a", ""))
	s.want("", closed(journal.ReasonEvicted, 1))
}

func TestTenantErased(t *testing.T) {
	s := newScene(t)
	in := func(r journal.Ref, key journal.KeyID, of journal.TenantID) journal.Event {
		e := created(func(c *journal.Created) { c.Key, c.Tenant = key, of })
		e.Ref = r
		return e
	}
	third, stranger := replaytest.Ref(2), replaytest.Ref(3)
	s.want("", in(ref, "k1", tenant))
	s.want("", in(other, "k2", tenant))
	s.want("", in(third, "k2", tenant))
	s.want("", in(stranger, "k1", journal.TenantID{7}))
	newer := changed(0, func(c *journal.Changed) { c.Context, c.Key = journal.Sealed("newer"), "k1" })
	newer.Ref = third
	s.want("", newer)
	upstream := bound(1, "a", "u")
	upstream.Ref = other
	s.want("", upstream)

	s.want("", erased("k1"))
	for r, present := range map[journal.Ref]bool{ref: false, other: true, third: false, stranger: true} {
		if _, ok := s.state.Session(r); ok != present || s.state.Ended(r) == present {
			t.Errorf("session %v: present %v, want %v", r, ok, present)
		}
	}
	if got, _ := s.state.Session(other); len(got.Upstream) > 0 || got.Epoch != 1 {
		t.Errorf("upstream under an erased key: %+v", got)
	}
	if !s.state.ErasedKey(tenant, "k1") || s.state.ErasedKey(tenant, "k2") || s.state.ErasedKey(journal.TenantID{7}, "k1") {
		t.Errorf("erased keys are wrong")
	}
	s.want(replay.RefusedErased, in(replaytest.Ref(4), "k1", tenant))
	newer.Ref, newer.Epoch, upstream.Ref, upstream.Epoch = other, 1, other, 1
	s.want(replay.RefusedErased, newer)
	s.want(replay.RefusedErased, upstream)
	if got := s.state.TenantLen(tenant); got != 1 {
		t.Errorf("%d sessions of the tenant are left", got)
	}
}

func TestKindsForTheRecordAreAccepted(t *testing.T) {
	s := newScene(t)
	for k := journal.KindReplicaStarted; k <= journal.LastKind; k++ {
		s.want("", journal.Event{Kind: k, Note: &journal.Note{}})
	}
}

func TestUnknownKindsAreCounted(t *testing.T) {
	s := newScene(t)
	m := s.message(accessed(0), accessed(0))
	b := openPlain(t, m)
	b.Events[0], b.Events[1].Kind = journal.Event{}, journal.LastKind+1
	if err := s.state.Apply(m, b); err != nil {
		t.Fatal(err)
	}
	if got := s.state.Stats(); got.Unknown != 2 || len(got.Refused)+len(got.Accepted) != 0 {
		t.Fatalf("%+v", got)
	}
}
