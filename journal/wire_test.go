package journal_test

import (
	"bytes"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journalpb"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

// headerOf makes the header that a sealer would make.
func headerOf(events []journal.Event) *journal.Header {
	h := &journal.Header{
		Journal: journal.ID{1, 2, 3}, Key: "j1", Writer: journal.WriterID{4, 5, 6}, Number: 7,
		First: math.MaxInt64, Last: math.MinInt64, Count: uint32(len(events)), Refs: journal.MakeRefFilter(events),
	}
	for i := range events {
		h.First, h.Last = min(h.First, events[i].At), max(h.Last, events[i].At)
	}
	return h
}

func encode(tb testing.TB, h *journal.Header, events []journal.Event) (meta, sealed []byte) {
	tb.Helper()
	meta, n, err := journal.AppendEvents(nil, h.First, events)
	if err != nil {
		tb.Fatal(err)
	}
	sealed = journal.AppendSealed(nil, events)
	if n != len(sealed) {
		tb.Fatalf("AppendEvents promised %d sealed bytes, AppendSealed wrote %d", n, len(sealed))
	}
	return meta, sealed
}

func TestEventsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := journaltest.Events(t, 20)
		h := headerOf(events)
		meta, n, err := journal.AppendEvents([]byte("kept"), h.First, events)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(meta, []byte("kept")) {
			t.Fatal("what stood in dst is gone")
		}
		sealed := journal.AppendSealed(nil, events)
		if n != len(sealed) {
			t.Fatalf("AppendEvents promised %d sealed bytes, AppendSealed wrote %d", n, len(sealed))
		}
		b, err := journal.DecodeEvents(h, meta[4:], sealed)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(b.Events, events) {
			t.Fatalf("got\n%+v\nwant\n%+v", b.Events, events)
		}
		if b.Unknown != 0 || !reflect.DeepEqual(b.Header, *h) {
			t.Fatalf("header %+v, unknown %d", b.Header, b.Unknown)
		}
	})
}

// The wire is valid Protobuf of the schema: generated code writes the same bytes and reads them alike.
func TestEventsAgreeWithGeneratedCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := journaltest.Events(t, 10)
		h := headerOf(events)
		meta, _, err := journal.AppendEvents(nil, h.First, events)
		if err != nil {
			t.Fatal(err)
		}
		sealed := journal.AppendSealed(nil, events)
		want, err := eventsToPB(h.First, events).MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(meta, want) {
			t.Fatalf("got  %x\nwant %x", meta, want)
		}
		var m journalpb.Events
		if err := proto.Unmarshal(meta, &m); err != nil {
			t.Fatal(err)
		}
		if got := eventsFromPB(h.First, &m, sealed); !reflect.DeepEqual(got, events) {
			t.Fatalf("generated code reads\n%+v\nwant\n%+v", got, events)
		}
	})
}

func TestHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := journaltest.Events(t, 50)
		h := headerOf(events)
		h.Number = rapid.Uint64Min(1).Draw(t, "number")
		h.Basis.Seq = journal.Seq(rapid.Uint64().Draw(t, "basis"))
		copy(h.Basis.Root[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "root"))
		copy(h.Previous[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "previous"))
		data := journal.AppendHeader([]byte("kept"), h)[4:]

		got, at, err := journal.ParseHeader(append(data, "sealed part"...))
		if err != nil {
			t.Fatal(err)
		}
		if at != len(data) || !reflect.DeepEqual(got, *h) {
			t.Fatalf("got %+v, sealed at %d\nwant %+v, sealed at %d", got, at, *h, len(data))
		}
		want, err := headerToPB(h).MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(data, want) || len(data)-len(want) > 3 {
			t.Fatalf("got  %x\nwant %x", data, want)
		}
	})
}

func TestHeaderSkipsUnknownFields(t *testing.T) {
	h := headerOf([]journal.Event{{Kind: journal.KindTouched, Ref: journal.Ref{1}, At: 5}})
	b, err := headerToPB(h).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	b = protowire.AppendBytes(protowire.AppendTag(b, 99, protowire.BytesType), []byte("later"))
	b = protowire.AppendVarint(protowire.AppendTag(b, 100, protowire.VarintType), 1<<40)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 101, protowire.Fixed32Type), 1)
	b = protowire.AppendFixed64(protowire.AppendTag(b, 102, protowire.Fixed64Type), 1)
	data := append(protowire.AppendVarint([]byte{journal.Version}, uint64(len(b))), b...)
	got, _, err := journal.ParseHeader(data)
	if err != nil || !reflect.DeepEqual(got, *h) {
		t.Fatalf("%+v, %v", got, err)
	}
}

// A newer release's kinds and fields, sealed bytes included, must not get in the way of what is known.
func TestEventsOfNewerReleases(t *testing.T) {
	known := journal.Event{
		Kind: journal.KindBound, Ref: journal.Ref{2}, At: 10, Epoch: 3,
		Bound: &journal.Bound{Replica: "a", Upstream: journal.Sealed("upstream"), Key: "d1"},
	}
	h := headerOf([]journal.Event{known})
	h.Count = 3

	novel := &journalpb.Event{
		Kind: uint32(journal.LastKind) + 1, Ref: bytes.Repeat([]byte{9}, 16), Epoch: 4, Method: "x",
		Created: &journalpb.Created{IdSealed: 2}, LaterSealed: 5,
	}
	novel.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 77, protowire.BytesType), []byte("part")))
	grown := eventToPB(h.First, &known)
	grown.LaterSealed = 3
	huge := &journalpb.Event{Kind: math.MaxUint32}
	meta, err := proto.Marshal(&journalpb.Events{Events: []*journalpb.Event{novel, grown, huge}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := journal.DecodeEvents(h, meta, []byte("id"+"later"+"upstream"+"new"))
	if err != nil {
		t.Fatal(err)
	}
	want := []journal.Event{{Ref: journal.Ref(bytes.Repeat([]byte{9}, 16)), At: 10, Epoch: 4}, known, {At: 10}}
	if !reflect.DeepEqual(b.Events, want) || b.Unknown != 2 {
		t.Fatalf("unknown %d\ngot  %+v\nwant %+v", b.Unknown, b.Events, want)
	}
}

func TestMeasureEventIsAnUpperBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := journaltest.Events(t, 5)
		sum := 0
		for i := range events {
			n, err := journal.MeasureEvent(&events[i])
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		meta, sealed, err := journal.AppendEvents(nil, headerOf(events).First, events)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(meta) + sealed; got > sum || sum-got > 12*len(events) {
			t.Fatalf("%d bytes, measured %d", got, sum)
		}
	})
}
