package journal_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journalpb"
)

var workloads = []struct {
	name   string
	events func(n int) []journal.Event
}{{"created", manyCreated}, {"mixed", manyMixed}}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func manyCreated(n int) []journal.Event {
	at := journal.InstantOf(time.Now())
	events := make([]journal.Event, n)
	for i := range events {
		tenant := i % 50
		events[i] = journal.Event{Kind: journal.KindCreated, Ref: journal.NewSessionID().Ref(), At: at, Created: &journal.Created{
			Source: journal.SourceClient, ID: random(65), Context: random(229), Tenant: journal.TenantID{1, byte(tenant)},
			Label: fmt.Sprintf("instance-%d", tenant), Key: "d0123456789abcdef", Fingerprint: journal.Fingerprint{1, byte(tenant)},
			URLHash: journal.URLHash{2, byte(tenant)}, Principal: "token:ci", Protocol: "2025-11-25",
			Initialize: json.RawMessage(`{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true}},"clientInfo":{"name":"client","version":"1.0.0"}}`),
			Timeout:    30 * time.Minute, CreatedAt: at, LastAccess: at,
		}}
		at += journal.Instant(i % 2)
	}
	return events
}

func manyMixed(n int) []journal.Event {
	at := journal.InstantOf(time.Now())
	tools := []string{"n8n_list_workflows", "n8n_get_workflow", "n8n_list_executions", "search_nodes"}
	events := manyCreated(n)
	for i := range events {
		if i%10 == 0 {
			continue
		}
		call := journal.Call{Number: uint64(1000 + i/2), Method: "tools/call", Tool: tools[i%4]}
		events[i] = journal.Event{Kind: journal.KindOpened, Ref: events[i].Ref, At: at, Epoch: 1, Call: call}
		if i%2 == 0 {
			events[i].Kind, events[i].Call.Outcome = journal.KindAccessed, journal.OutcomeOK
			events[i].Call.Duration = time.Duration(1000+i*37) * time.Microsecond
		}
		at += journal.Instant(i % 2)
	}
	return events
}

// perEvent reports the cost of one event, the figure that limits are stated in.
func perEvent(b *testing.B, events, size int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(events), "ns/event")
	b.ReportMetric(float64(size)/float64(events), "B/event")
}

func BenchmarkEncode(b *testing.B) {
	for _, w := range workloads {
		events := w.events(500)
		h := headerOf(events)
		b.Run(w.name+"/journal", func(b *testing.B) {
			var meta, sealed []byte
			b.ReportAllocs()
			for b.Loop() {
				meta, _, _ = journal.AppendEvents(meta[:0], h.First, events)
				sealed = journal.AppendSealed(sealed[:0], events)
			}
			perEvent(b, len(events), len(meta)+len(sealed))
		})
		b.Run(w.name+"/journalpb", func(b *testing.B) {
			var meta, sealed []byte
			b.ReportAllocs()
			for b.Loop() {
				meta, _ = eventsToPB(h.First, events).MarshalVT()
				sealed = journal.AppendSealed(sealed[:0], events)
			}
			perEvent(b, len(events), len(meta)+len(sealed))
		})
		b.Run(w.name+"/json", func(b *testing.B) {
			var data []byte
			b.ReportAllocs()
			for b.Loop() {
				data, _ = json.Marshal(events)
			}
			perEvent(b, len(events), len(data))
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, w := range workloads {
		events := w.events(500)
		h := headerOf(events)
		meta, sealed := encode(b, h, events)
		b.Run(w.name+"/journal", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := journal.DecodeEvents(h, meta, sealed); err != nil {
					b.Fatal(err)
				}
			}
			perEvent(b, len(events), len(meta)+len(sealed))
		})
		b.Run(w.name+"/journalpb", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var m journalpb.Events
				if err := m.UnmarshalVTUnsafe(meta); err != nil {
					b.Fatal(err)
				}
				eventsFromPB(h.First, &m, sealed)
			}
			perEvent(b, len(events), len(meta)+len(sealed))
		})
		data, err := json.Marshal(events)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(w.name+"/json", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var events []journal.Event
				if err := json.Unmarshal(data, &events); err != nil {
					b.Fatal(err)
				}
			}
			perEvent(b, len(events), len(data))
		})
	}
}

func BenchmarkMeasureEvent(b *testing.B) {
	for _, w := range workloads {
		events := w.events(500)
		b.Run(w.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range events {
					if _, err := journal.MeasureEvent(&events[i]); err != nil {
						b.Fatal(err)
					}
				}
			}
			perEvent(b, len(events), 0)
		})
	}
}
