package replay_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// The laws of the fold. Each holds for every history, however its writers disagree.

func TestLawReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages := replaytest.History(t)
		one, other := replay.NewState(), replay.NewState()
		for _, m := range messages {
			apply(t, one, m)
			apply(t, other, m)
			if one.Digest() != other.Digest() {
				t.Fatalf("two folds differ at message %d", m.Seq)
			}
			if one.Root() != other.Root() {
				t.Fatalf("two roots differ at message %d", m.Seq)
			}
		}
	})
}

func TestLawRedeliveryChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages := replaytest.History(t)
		s := replay.NewState()
		for i, m := range messages {
			apply(t, s, m)
			before := s.Digest()
			apply(t, s, m)
			apply(t, s, messages[rapid.IntRange(0, i).Draw(t, "redelivered")])
			if s.Digest() != before {
				t.Fatalf("message %d, delivered again, changed the state", m.Seq)
			}
		}
	})
}

// A batch that got into the stream twice is history, but nothing more.
func TestLawBatchStoredTwiceChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages := replaytest.History(t)
		s := replay.NewState()
		apply(t, s, messages...)
		before := sessionsOf(s)
		again := rapid.SampledFrom(messages).Draw(t, "again")
		again.Seq, again.Time = s.Seq()+1, s.Now()
		for i, why := range verdicts(t, s, again) {
			if why != replay.RefusedRepeated && why != replay.RefusedWriter {
				t.Fatalf("event %d of a repeated batch: %q", i, why)
			}
		}
		if !reflect.DeepEqual(before, sessionsOf(s)) {
			t.Fatalf("a batch stored twice changed a session")
		}
	})
}

func TestLawRefusedEventsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := replay.NewState()
		for _, m := range replaytest.History(t) {
			before := sessionsOf(s)
			refused := true
			for _, why := range verdicts(t, s, m) {
				refused = refused && why != ""
			}
			if refused && !reflect.DeepEqual(before, sessionsOf(s)) {
				t.Fatalf("message %d was refused and changed a session", m.Seq)
			}
		}
	})
}

func TestLawCountersAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := replay.NewState()
		var events uint64
		for _, m := range replaytest.History(t) {
			events += uint64(len(verdicts(t, s, m)))
		}
		stats := s.Stats()
		sum := stats.Unknown
		for _, n := range stats.Accepted {
			sum += n
		}
		for _, n := range stats.Refused {
			sum += n
		}
		if sum != events || stats.Events != events {
			t.Fatalf("%d events, %d counted, %d by verdict", events, stats.Events, sum)
		}
	})
}

func TestLawLookUpsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := replay.NewState()
		for _, m := range replaytest.History(t) {
			apply(t, s, m)
			checkLookUps(t, s)
			for _, ahead := range []time.Duration{-time.Hour, 0, time.Minute, 3 * time.Hour, 48 * time.Hour} {
				checkDue(t, s, s.Now().Add(ahead))
			}
		}
	})
}

func checkLookUps(t *rapid.T, s *replay.State) {
	t.Helper()
	all, tenants, principals := sessionsOf(s), make(map[journal.TenantID]int), make(map[journal.Principal]int)
	if len(all) != s.Len() {
		t.Fatalf("Len is %d, All gives %d", s.Len(), len(all))
	}
	for i := range all {
		one, ok := s.Session(all[i].Ref)
		if !ok || !reflect.DeepEqual(one, all[i]) || s.Ended(one.Ref) {
			t.Fatalf("Session %v: %v, %v; All gives %v", all[i].Ref, one, ok, all[i])
		}
		if one.LastAccess > s.Now() || one.CreatedAt > one.LastAccess {
			t.Fatalf("created %v, accessed %v, journal time %v", one.CreatedAt, one.LastAccess, s.Now())
		}
		tenants[one.Tenant]++
		principals[one.Principal]++
	}
	principals["nobody's"] = 0
	for p, n := range principals {
		if s.PrincipalLen(p) != n {
			t.Fatalf("principal %q: PrincipalLen is %d, All gives %d", p, s.PrincipalLen(p), n)
		}
	}
	for tenant := range byte(4) {
		if id := (journal.TenantID{tenant}); s.TenantLen(id) != tenants[id] {
			t.Fatalf("tenant %d: TenantLen is %d, All gives %d", tenant, s.TenantLen(id), tenants[id])
		}
	}
	byRef := func(a, b replay.Session) int { return slices.Compare(a.Ref[:], b.Ref[:]) }
	if !slices.IsSortedFunc(all, byRef) {
		t.Fatalf("All is not sorted")
	}
}

func checkDue(t *rapid.T, s *replay.State, now journal.Instant) {
	t.Helper()
	due := make(map[journal.Ref]bool)
	for one := range s.Due(now) {
		if due[one.Ref] {
			t.Fatalf("%v is due twice", one.Ref)
		}
		due[one.Ref] = true
	}
	for one := range s.All() {
		if due[one.Ref] != (one.Expires() <= now) {
			t.Fatalf("at %v: session expires %v, due %v", now, one.Expires(), due[one.Ref])
		}
	}
}

// watcher holds each accepted event against what was there before it. It is told of every batch of one
// event, so that nothing comes between.
type watcher struct {
	t      *rapid.T
	state  *replay.State
	ended  map[journal.Ref]journal.Instant            // when each last ended, never forgotten
	claims map[journal.Ref]map[journal.Epoch]position // who holds which epoch
}

type position struct {
	claim    journal.Position
	replica  journal.ReplicaID
	upstream string
}

func (w *watcher) apply(m journal.Message) {
	b := openPlain(w.t, m)
	before := make(map[journal.Ref]replay.Session)
	for s := range w.state.All() {
		before[s.Ref] = s
	}
	for i, why := range verdicts(w.t, w.state, m) {
		if why == "" && len(b.Events) == 1 {
			w.check(&b.Events[i], before)
		}
	}
	for ref := range before {
		if _, ok := w.state.Session(ref); !ok {
			w.ended[ref] = w.state.Now()
			delete(w.claims, ref)
			if !w.state.Ended(ref) {
				w.t.Fatalf("%v ended and is not remembered", ref)
			}
		}
	}
	w.bindings()
}

func (w *watcher) check(e *journal.Event, before map[journal.Ref]replay.Session) {
	old, present := before[e.Ref]
	switch e.Kind {
	case journal.KindCreated:
		if present {
			w.t.Fatalf("created while present")
		}
		w.notResurrected(e)
	case journal.KindExpired:
		if e.Basis != old.LastAccess || old.Expires() > w.state.Now() {
			w.t.Fatalf("expired at %v with basis %v; last access %v, expires %v", w.state.Now(), e.Basis, old.LastAccess, old.Expires())
		}
	case journal.KindOpened, journal.KindAccessed, journal.KindTouched, journal.KindChanged:
		now, _ := w.state.Session(e.Ref)
		if !present || e.Epoch != 0 && e.Epoch < old.Epoch || now.LastAccess < old.LastAccess {
			w.t.Fatalf("%v at epoch %d accepted by a session at epoch %d, last access %v to %v", e.Kind, e.Epoch, old.Epoch, old.LastAccess, now.LastAccess)
		}
	default:
		if !present && !e.Kind.ForRecord() {
			w.t.Fatalf("%v accepted without a session", e.Kind)
		}
	}
}

// notResurrected knows all ends there ever were, which the fold does not.
func (w *watcher) notResurrected(e *journal.Event) {
	end, ended := w.ended[e.Ref]
	switch {
	case !ended:
	case e.Created.Source == journal.SourceImport && e.Created.LastAccess <= end:
		w.t.Fatalf("an export from %v was imported although the session ended at %v", e.Created.LastAccess, end)
	case w.state.Now() < end.Add(replay.EndedMargin):
		w.t.Fatalf("created at %v although ended at %v", w.state.Now(), end)
	}
}

// bindings checks that nobody ever takes an epoch from somebody else.
func (w *watcher) bindings() {
	for s := range w.state.All() {
		if s.Epoch == 0 {
			continue
		}
		epochs := w.claims[s.Ref]
		if epochs == nil {
			epochs = make(map[journal.Epoch]position)
			w.claims[s.Ref] = epochs
		}
		now := position{claim: s.BoundAt, replica: s.Replica, upstream: string(s.Upstream)}
		old, ok := epochs[s.Epoch]
		sameUpstream := old.upstream == "" || now.upstream == "" || old.upstream == now.upstream
		if ok && (old.claim != now.claim || old.replica != now.replica || !sameUpstream) {
			w.t.Fatalf("epoch %d of %v went from %+v to %+v", s.Epoch, s.Ref, old, now)
		}
		epochs[s.Epoch] = now
	}
}

func TestLawNothingIsResurrected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &watcher{
			t: t, state: replay.NewState(),
			ended: make(map[journal.Ref]journal.Instant), claims: make(map[journal.Ref]map[journal.Epoch]position),
		}
		for _, m := range replaytest.History(t) {
			w.apply(m)
		}
	})
}

// Memory of a batch may be used for other things once it is folded.
func TestLawStateKeepsNothingOfABatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, got := replay.NewState(), replay.NewState()
		for _, m := range replaytest.History(t) {
			apply(t, want, m)
			data := slices.Clone(m.Data)
			b := openPlain(t, journal.Message{Data: data})
			if err := got.Apply(m, b); err != nil {
				t.Fatal(err)
			}
			for i := range data {
				data[i] = 0xff
			}
			for i := range b.Events {
				if c := b.Events[i].Created; c != nil {
					*c = journal.Created{}
				}
				b.Events[i] = journal.Event{}
			}
		}
		if got.Digest() != want.Digest() {
			t.Fatal("the state changed when batches were overwritten")
		}
	})
}
