package replay

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
)

// fill folds events as one batch a call.
func fill(t interface{ Fatalf(string, ...any) }, s *State, at journal.Instant, events ...journal.Event) {
	b := &journal.Batch{Events: events}
	b.Count, b.Number = uint32(len(events)), uint64(s.seq)+1
	if w := s.history.writers[b.Writer]; w != nil {
		b.Previous = w.last
	}
	data := fmt.Appendf(nil, "%d", s.seq)
	if err := s.Apply(journal.Message{Seq: s.seq + 1, Time: at, Data: data}, b); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

func numbered(i int) (r journal.Ref) {
	r[0], r[1], r[2] = byte(i), byte(i>>8), 1
	return r
}

func someCreated(i int, tenant byte, principal journal.Principal) journal.Event {
	return journal.Event{Kind: journal.KindCreated, Ref: numbered(i), Created: &journal.Created{
		Source: journal.SourceClient, Tenant: journal.TenantID{tenant}, Principal: principal, Timeout: time.Minute,
		Initialize: json.RawMessage(`{"clientInfo":"` + "same" + `"}`),
	}}
}

func TestEqualParamsAreHeldOnce(t *testing.T) {
	s := NewState()
	for i := range 100 {
		fill(t, s, 1, someCreated(i, byte(i%7), journal.Principal(fmt.Sprint(i%13))))
	}
	if n := len(s.directory.params); n != 1 {
		t.Fatalf("%d copies of the parameters", n)
	}
	held := make(map[*byte]bool)
	for one := range s.All() {
		held[unsafe.SliceData([]byte(one.Initialize))] = true
	}
	if len(held) != 1 {
		t.Fatalf("%d copies of the parameters", len(held))
	}
}

func TestEndedSessionsLeaveNothing(t *testing.T) {
	s := NewState()
	const n = 3 * pageSize
	for round := range 3 {
		now := journal.Instant(1).Add(time.Duration(round) * 24 * time.Hour)
		for i := range n {
			fill(t, s, now, someCreated(i, byte(i%5), journal.Principal(fmt.Sprint(i%11))))
		}
		for _, i := range rand.Perm(n) {
			fill(t, s, now, journal.Event{Kind: journal.KindClosed, Ref: numbered(i), Reason: journal.ReasonAdmin})
		}
		d := &s.directory
		if s.Len()+len(d.tenants)+len(d.params) > 0 {
			t.Fatalf("%d sessions, %d tenants, %d params are left", s.Len(), len(d.tenants), len(d.params))
		}
	}
	if s.table.used != n || len(s.table.free) != n {
		t.Fatalf("%d places used, %d free; %d were needed", s.table.used, len(s.table.free), n)
	}
	if got := len(s.ended.remembered()); got != n || len(s.ended.refs) != n {
		t.Fatalf("%d ends are remembered, %d of them could be", got, n)
	}
	fill(t, s, s.now.Add(48*time.Hour), journal.Event{Kind: journal.KindExported})
	if len(s.ended.refs)+len(s.ended.remembered())+len(s.table.due.buckets)+len(s.table.due.queue) > 0 {
		t.Fatalf("something is left: %d %v", len(s.ended.refs), s.table.due)
	}
}

func TestAccessAllocatesNothing(t *testing.T) {
	s := NewState()
	fill(t, s, 1, someCreated(1, 1, ""))
	e := journal.Event{Kind: journal.KindAccessed, Ref: numbered(1), Call: journal.Call{Method: "tools/call"}}
	got := testing.AllocsPerRun(1000, func() {
		e.At++
		s.now++
		if why := s.fold(&e, journal.Position{}); why != accepted {
			t.Fatal(why)
		}
	})
	if got > 0 {
		t.Fatalf("%v allocations an access", got)
	}
}

// What no writer writes, and a decoder might let through one day, must not stop a replica.
func TestJunkEventsAreRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		fill(t, s, 1000, someCreated(0, 1, ""), someCreated(1, 1, ""))
		for range rapid.IntRange(1, 10).Draw(t, "batches") {
			fill(t, s, journal.Instant(rapid.Int64().Draw(t, "time")), drawJunk(t))
			n := 0
			for range s.All() {
				n++
			}
			for range s.Due(s.now) {
				n--
			}
			if n < 0 {
				t.Fatalf("more is due than present")
			}
		}
		s.Digest()
	})
}

func drawJunk(t *rapid.T) journal.Event {
	number := func(label string) journal.Instant {
		return journal.Instant(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1, 2000)).Draw(t, label))
	}
	some := func() bool { return rapid.Bool().Draw(t, "part") }
	e := journal.Event{
		Kind: journal.Kind(rapid.IntRange(0, int(journal.LastKind)+2).Draw(t, "kind")), At: number("at"),
		Ref: numbered(rapid.IntRange(0, 3).Draw(t, "ref")), Epoch: journal.Epoch(number("epoch")),
		Basis: number("basis"), Reason: journal.Reason(rapid.Byte().Draw(t, "reason")),
	}
	if some() {
		e.Ref = journal.Ref{}
	}
	if some() {
		e.Created = &journal.Created{
			Source: journal.Source(rapid.Byte().Draw(t, "source")), Timeout: time.Duration(number("timeout")),
			CreatedAt: number("created"), LastAccess: number("accessed"),
		}
	}
	if some() {
		e.Changed = &journal.Changed{Subscribed: []string{"", ""}, Unsubscribed: []string{"x"}}
	}
	if some() {
		e.Bound = &journal.Bound{Upstream: journal.Sealed("u")}
	}
	if some() {
		e.Note = &journal.Note{Keys: []journal.KeyID{"", ""}}
	}
	return e
}
