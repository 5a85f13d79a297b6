package journal_test

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journalpb"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

// alikeEvents returns created events of two tenants, some of which are like one another, and an access between them.
func alikeEvents() []journal.Event {
	one := journaltest.OneOfEach()[0]
	created := func(n byte, change func(*journal.Event)) journal.Event {
		e, c := one, *one.Created
		e.Ref, e.At, e.Created = journal.Ref{n}, e.At+journal.Instant(n), &c
		c.CreatedAt, c.LastAccess = e.At, e.At
		c.ID = journal.Sealed{n, 1, 2}
		if change != nil {
			change(&e)
		}
		return e
	}
	other := func(e *journal.Event) { e.Created.Tenant, e.Created.Label = journal.TenantID{7}, "other" }
	return []journal.Event{
		created(1, nil),
		created(2, other),
		created(3, nil),
		{Kind: journal.KindOpened, Ref: journal.Ref{1}, At: one.At + 9, Call: journal.Call{Number: 1, Method: "ping"}},
		created(4, other),
		created(5, func(e *journal.Event) { e.Created.CreatedAt, e.Created.LastAccess = 5, e.At-1 }),
		created(6, func(e *journal.Event) { e.Created.Key = "d1" }),
		created(7, func(e *journal.Event) { e.Created.Context = nil }),
	}
}

func encodeAlike(tb testing.TB, events []journal.Event) (meta, sealed []byte) {
	tb.Helper()
	var p journal.EventPacker
	meta, n, alike, err := p.Append(nil, headerOf(events).First, events)
	if err != nil || !alike {
		tb.Fatal(alike, err)
	}
	sealed = journal.AppendSealed(nil, events)
	if n != len(sealed) {
		tb.Fatalf("promised %d sealed bytes, AppendSealed wrote %d", n, len(sealed))
	}
	return meta, sealed
}

func TestAlikeRoundTrip(t *testing.T) {
	var p journal.EventPacker
	rapid.Check(t, func(t *rapid.T) {
		events := journaltest.Events(t, 20)
		for i := range events {
			if j := rapid.IntRange(0, i).Draw(t, "like"); events[i].Created != nil && events[j].Created != nil {
				c := *events[j].Created
				c.CreatedAt, c.LastAccess = events[i].Created.CreatedAt, events[i].Created.LastAccess
				events[i].Created = &c
			}
		}
		h := headerOf(events)
		meta, _, alike, err := p.Append(nil, h.First, events)
		if err != nil {
			t.Fatal(err)
		}
		h.Alike = alike
		sealed := journal.AppendSealed(nil, events)
		b, err := journal.DecodeEvents(h, meta, sealed)
		if err != nil || !reflect.DeepEqual(b.Events, events) {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, b, events)
		}
		var m journalpb.Events
		if err := proto.Unmarshal(meta, &m); err != nil {
			t.Fatal(err)
		}
		if got := eventsFromPB(h.First, &m, sealed); !reflect.DeepEqual(got, events) {
			t.Fatalf("generated code\ngot  %+v\nwant %+v", got, events)
		}
	})
}

func TestAlikeSaves(t *testing.T) {
	events := alikeEvents()
	plain, _ := encode(t, headerOf(events), events)
	if alike, _ := encodeAlike(t, events); len(alike) > len(plain)-3*100 {
		t.Errorf("%d bytes, %d without naming others", len(alike), len(plain))
	}
}

// What no writer writes is refused, and so is naming other events in a batch of version 1.
func TestAlikeMalformed(t *testing.T) {
	ref := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), make([]byte, 16))
	event := func(kind byte, part ...byte) []byte {
		e := append([]byte{1 << 3, kind}, ref...)
		if kind == byte(journal.KindCreated) {
			e = protowire.AppendBytes(protowire.AppendTag(e, 10, protowire.BytesType), part)
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), e)
	}
	plain := event(1, 1<<3, 1, 11<<3|2, 1, 'p')
	like := func(fields ...byte) []byte { return append([]byte{15 << 3}, fields...) }
	header := &journal.Header{Number: 1, Count: 2, Alike: true}
	if _, err := journal.DecodeEvents(header, append(plain, event(1, like(1)...)...), nil); err != nil {
		t.Fatal(err)
	}
	for name, meta := range map[string][]byte{
		"itself":         append(plain, event(1, like(0)...)...),
		"before all":     append(plain, event(1, like(2)...)...),
		"no created":     append(event(4), event(1, like(1)...)...),
		"another field":  append(plain, event(1, like(1, 1<<3, 2)...)...),
		"an old time":    append(plain, event(1, like(1, 13<<3, 2)...)...),
		"twice":          append(plain, event(1, like(1, 15<<3, 1)...)...),
		"behind a field": append(plain, event(1, 1<<3, 2, 15<<3, 1)...),
	} {
		if b, err := journal.DecodeEvents(header, meta, nil); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	header.Alike = false
	if _, err := journal.DecodeEvents(header, append(plain, event(1, like(1)...)...), nil); !errors.Is(err, journal.ErrMalformed) {
		t.Error("version 1:", err)
	}
}

// Tenants whose slots are the same do not drive one another out.
func TestAlikeOfManyTenants(t *testing.T) {
	const tenants = 100
	one := journaltest.OneOfEach()[0]
	events := make([]journal.Event, 5*tenants)
	for i := range events {
		c := *one.Created
		binary.LittleEndian.PutUint64(c.Tenant[:], uint64(i%tenants+1)*0xd1342543de82ef95)
		events[i] = one
		events[i].Created = &c
	}
	var p journal.EventPacker
	first, _, _, err := p.Append(nil, one.At, events[:tenants])
	if err != nil {
		t.Fatal(err)
	}
	all, _, _, err := p.Append(nil, one.At, events)
	if err != nil {
		t.Fatal(err)
	}
	if varied := len(all) - p.Dense(); varied != len(first) {
		t.Errorf("%d bytes of events that are like none before, want the %d of each tenant's first", varied, len(first))
	}
}
