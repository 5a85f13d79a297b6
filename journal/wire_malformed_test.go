package journal_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journalpb"
)

func TestHeaderMalformed(t *testing.T) {
	good := func() *journalpb.Header {
		return headerToPB(headerOf([]journal.Event{{Kind: journal.KindTouched, Ref: journal.Ref{1}, At: 5}}))
	}
	frame := func(change func(h *journalpb.Header)) []byte {
		h := good()
		change(h)
		b, err := h.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		return append(protowire.AppendVarint([]byte{journal.Version}, uint64(len(b))), b...)
	}
	if _, _, err := journal.ParseHeader(frame(func(*journalpb.Header) {})); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"nothing":               nil,
		"version alone":         {journal.Version},
		"another version":       append([]byte{3}, frame(func(*journalpb.Header) {})[1:]...),
		"length beyond the end": {journal.Version, 10, 1, 2},
		"huge length":           append([]byte{journal.Version}, protowire.AppendVarint(nil, math.MaxUint64)...),
		"endless length":        append([]byte{journal.Version}, bytes.Repeat([]byte{0xff}, 20)...),
		"no fields":             {journal.Version, 0},
		"short journal":         frame(func(h *journalpb.Header) { h.Journal = h.GetJournal()[:15] }),
		"long writer":           frame(func(h *journalpb.Header) { h.Writer = append(h.GetWriter(), 1) }),
		"short previous":        frame(func(h *journalpb.Header) { h.Previous = []byte{1} }),
		"short root":            frame(func(h *journalpb.Header) { h.BasisRoot = make([]byte, 31) }),
		"key ID with a dot":     frame(func(h *journalpb.Header) { h.Key = "j.1" }),
		"long key ID":           frame(func(h *journalpb.Header) { h.Key = strings.Repeat("j", 65) }),
		"no number":             frame(func(h *journalpb.Header) { h.Number = 0 }),
		"no events":             frame(func(h *journalpb.Header) { h.Count = 0 }),
		"too many events":       frame(func(h *journalpb.Header) { h.Count = journal.MaxBatchEvents + 1 }),
		"first after last":      frame(func(h *journalpb.Header) { h.First = h.GetLast() + 1 }),
		"ref filter of 24":      frame(func(h *journalpb.Header) { h.Refs = make([]byte, 24) }),
		"ref filter of 4":       frame(func(h *journalpb.Header) { h.Refs = make([]byte, 4) }),
		"ref filter of 4096":    frame(func(h *journalpb.Header) { h.Refs = make([]byte, 4096) }),
		"header too long": frame(func(h *journalpb.Header) {
			h.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 77, protowire.BytesType), make([]byte, 4096)))
		}),
		"group":                  {journal.Version, 2, 4<<3 | 3, 1},
		"field number zero":      {journal.Version, 2, 0, 1},
		"number without its end": {journal.Version, 2, 4 << 3, 0x80},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := journal.ParseHeader(data); !errors.Is(err, journal.ErrMalformed) {
				t.Fatalf("%x: %v", data, err)
			}
		})
	}
}

func TestEventsMalformed(t *testing.T) {
	created := func(c *journalpb.Created) *journalpb.Event {
		return &journalpb.Event{Kind: uint32(journal.KindCreated), Created: c}
	}
	touched := func(change func(e *journalpb.Event)) *journalpb.Event {
		e := &journalpb.Event{Kind: uint32(journal.KindTouched)}
		change(e)
		return e
	}
	for name, e := range map[string]*journalpb.Event{
		"no kind":               {Epoch: 1},
		"created without it":    {Kind: uint32(journal.KindCreated)},
		"changed without it":    {Kind: uint32(journal.KindChanged)},
		"bound without it":      {Kind: uint32(journal.KindBound)},
		"note missing":          {Kind: uint32(journal.KindExported)},
		"short ref":             touched(func(e *journalpb.Event) { e.Ref = []byte{1} }),
		"before the first":      touched(func(e *journalpb.Event) { e.At = -1 }),
		"after the last":        touched(func(e *journalpb.Event) { e.At = 1001 }),
		"outcome out of range":  touched(func(e *journalpb.Event) { e.Outcome = 256 }),
		"reason out of range":   touched(func(e *journalpb.Event) { e.Reason = 1 << 20 }),
		"endless duration":      touched(func(e *journalpb.Event) { e.Duration = math.MaxInt64 }),
		"method not UTF-8":      touched(func(e *journalpb.Event) { e.Method = "\xff" }),
		"later sealed missing":  touched(func(e *journalpb.Event) { e.LaterSealed = 11 }),
		"sealed bytes left":     touched(func(*journalpb.Event) {}),
		"sealed bytes missing":  created(&journalpb.Created{IdSealed: 5, ContextSealed: 6}),
		"huge sealed length":    created(&journalpb.Created{IdSealed: math.MaxUint32}),
		"short tenant":          created(&journalpb.Created{IdSealed: 10, Tenant: []byte{1}}),
		"long fingerprint":      created(&journalpb.Created{IdSealed: 10, Fingerprint: make([]byte, 9)}),
		"endless timeout":       created(&journalpb.Created{IdSealed: 10, Timeout: math.MaxInt64}),
		"source out of range":   created(&journalpb.Created{IdSealed: 10, Source: 999}),
		"short tenant in notes": {Kind: uint32(journal.KindExported), Note: &journalpb.Note{Tenant: []byte{1}}},
	} {
		t.Run(name, func(t *testing.T) {
			meta, err := (&journalpb.Events{Events: []*journalpb.Event{e}}).MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			h := &journal.Header{Number: 1, First: 1000, Last: 2000, Count: 1}
			if b, err := journal.DecodeEvents(h, meta, make([]byte, 10)); !errors.Is(err, journal.ErrMalformed) {
				t.Fatalf("%x: %+v, %v", meta, b, err)
			}
		})
	}
}

func TestEventsHoldAgainstHeader(t *testing.T) {
	events := []journal.Event{{Kind: journal.KindTouched, At: 5}, {Kind: journal.KindTouched, At: 6}}
	meta, _ := encode(t, headerOf(events), events)
	for name, change := range map[string]func(h *journal.Header){
		"one too few":  func(h *journal.Header) { h.Count = 1 },
		"one too many": func(h *journal.Header) { h.Count = 3 },
		"none":         func(h *journal.Header) { h.Count = 0 },
		"absurd":       func(h *journal.Header) { h.Count = math.MaxUint32 },
		"too early":    func(h *journal.Header) { h.Last = 5 },
	} {
		h := headerOf(events)
		change(h)
		if _, err := journal.DecodeEvents(h, meta, nil); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := journal.DecodeEvents(headerOf(events), meta[:len(meta)-1], nil); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("cut off: %v", err)
	}
	if _, err := journal.DecodeEvents(headerOf(events), meta, make([]byte, journal.MaxPayload)); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
}

func TestEventsRefused(t *testing.T) {
	touched := journal.Event{Kind: journal.KindTouched}
	with := func(change func(e *journal.Event)) []journal.Event {
		e := journal.Event{Kind: journal.KindCreated, Created: &journal.Created{}}
		change(&e)
		return []journal.Event{touched, e}
	}
	for name, row := range map[string]struct {
		events []journal.Event
		want   error
	}{
		"kind zero":         {with(func(e *journal.Event) { e.Kind = 0 }), journal.ErrMalformed},
		"unknown kind":      {with(func(e *journal.Event) { e.Kind = journal.LastKind + 1 }), journal.ErrMalformed},
		"part missing":      {with(func(e *journal.Event) { e.Created = nil }), journal.ErrMalformed},
		"note missing":      {with(func(e *journal.Event) { e.Kind = journal.KindImported }), journal.ErrMalformed},
		"label not UTF-8":   {with(func(e *journal.Event) { e.Created.Label = "a\xffb" }), journal.ErrMalformed},
		"negative timeout":  {with(func(e *journal.Event) { e.Created.Timeout = -time.Second }), journal.ErrMalformed},
		"negative duration": {with(func(e *journal.Event) { e.Call.Duration = -time.Second }), journal.ErrMalformed},
		"too many":          {make([]journal.Event, journal.MaxBatchEvents+1), journal.ErrTooLarge},
		"context too large": {with(func(e *journal.Event) { e.Created.Context = make([]byte, journal.MaxPayload) }), journal.ErrTooLarge},
		"label too large":   {with(func(e *journal.Event) { e.Created.Label = strings.Repeat("x", journal.MaxPayload) }), journal.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			dst := []byte("kept")
			if got, _, err := journal.AppendEvents(dst, 0, row.events); !errors.Is(err, row.want) || string(got) != "kept" {
				t.Errorf("AppendEvents: %q, %v", got, err)
			}
			if name == "too many" {
				return
			}
			if _, err := journal.MeasureEvent(&row.events[1]); !errors.Is(err, row.want) {
				t.Errorf("MeasureEvent: %v", err)
			}
		})
	}
}
