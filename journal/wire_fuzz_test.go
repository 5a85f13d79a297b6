package journal_test

import (
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journalpb"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

func FuzzHeader(f *testing.F) {
	f.Add(journal.AppendHeader(nil, headerOf(journaltest.OneOfEach())))
	f.Add(journal.AppendHeader(nil, headerOf(journaltest.OneOfEach()[:1])))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, at, err := journal.ParseHeader(data)
		if err != nil {
			return
		}
		if at > len(data) {
			t.Fatalf("sealed part at %d of %d", at, len(data))
		}
		again := journal.AppendHeader(nil, &h)
		if len(again) > at {
			t.Fatalf("grew from %d to %d bytes", at, len(again))
		}
		h2, at2, err := journal.ParseHeader(again)
		if err != nil || at2 != len(again) || !reflect.DeepEqual(h, h2) {
			t.Fatalf("%v\nfirst  %+v\nsecond %+v", err, h, h2)
		}
	})
}

func FuzzEvents(f *testing.F) {
	meta, sealed := encode(f, headerOf(journaltest.OneOfEach()), journaltest.OneOfEach())
	f.Add(uint32(len(journaltest.OneOfEach())), meta, sealed)
	for _, e := range journaltest.OneOfEach() {
		one := []journal.Event{e}
		meta, sealed := encode(f, headerOf(one), one)
		f.Add(uint32(1), meta, sealed)
	}
	meta, sealed = encodeAlike(f, alikeEvents())
	f.Add(uint32(len(alikeEvents())), meta, sealed)
	f.Fuzz(func(t *testing.T, count uint32, meta, sealed []byte) {
		h := &journal.Header{Number: 1, First: 1 << 40, Last: math.MaxInt64, Count: count, Alike: true}
		b, err := journal.DecodeEvents(h, meta, sealed)
		if err != nil {
			return
		}
		if len(b.Events) != int(count) {
			t.Fatalf("%d events, the header says %d", len(b.Events), count)
		}
		agree(t, h, b, meta, sealed)
		if b.Unknown > 0 {
			return // cannot be written by this release
		}
		stable(t, h, b)
	})
}

// agree holds what was decoded against the generated code.
func agree(t *testing.T, h *journal.Header, b *journal.Batch, meta, sealed []byte) {
	t.Helper()
	var m journalpb.Events
	if err := proto.Unmarshal(meta, &m); err != nil {
		t.Fatalf("generated code refuses it: %v", err)
	}
	if b.Unknown == 0 {
		if want := eventsFromPB(h.First, &m, sealed); !reflect.DeepEqual(b.Events, want) {
			t.Fatalf("got  %+v\nwant %+v", b.Events, want)
		}
	}
}

func stable(t *testing.T, h *journal.Header, b *journal.Batch) {
	t.Helper()
	again, _ := encode(t, h, b.Events)
	b2, err := journal.DecodeEvents(h, again, journal.AppendSealed(nil, b.Events))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b.Events, b2.Events) {
		t.Fatalf("first  %+v\nsecond %+v", b.Events, b2.Events)
	}
}
