package seal_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

var workloads = []struct {
	name   string
	events func(n int) []journal.Event
}{{"created", manyCreated}, {"mixed", manyMixed}}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// manyCreated returns what a gateway writes when sessions begin: 36-byte IDs and 200-byte contexts, sealed.
func manyCreated(n int) []journal.Event {
	at := journal.InstantOf(time.Now())
	events := make([]journal.Event, n)
	for i := range events {
		tenant := byte(i % 50)
		events[i] = journal.Event{Kind: journal.KindCreated, Ref: journal.NewSessionID().Ref(), At: at, Created: &journal.Created{
			Source: journal.SourceClient, ID: noise(65), Context: noise(229), Tenant: journal.TenantID{1, tenant},
			Label: fmt.Sprintf("instance-%d", tenant), Key: "d0123456789abcdef", Fingerprint: journal.Fingerprint{1, tenant},
			URLHash: journal.URLHash{2, tenant}, Principal: "token:ci", Protocol: "2025-11-25",
			Initialize: json.RawMessage(`{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true}},"clientInfo":{"name":"client","version":"1.0.0"}}`),
			Timeout:    30 * time.Minute, CreatedAt: at, LastAccess: at,
		}}
		at += journal.Instant(i % 2)
	}
	return events
}

// manyMixed returns nine accesses for each created.
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

func perEvent(b *testing.B, events, size int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(events), "ns/event")
	b.ReportMetric(float64(size)/float64(events), "B/event")
}

// naive is JSON through the same zstd and the same cipher, all of it compressed.
type naive struct {
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	aead cipher.AEAD
}

func newNaive(b *testing.B) *naive {
	b.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(dec.Close)
	block, err := aes.NewCipher(noise(32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	return &naive{enc, dec, aead}
}

func (n *naive) encode(b *testing.B, events []journal.Event) []byte {
	b.Helper()
	data, err := json.Marshal(events)
	if err != nil {
		b.Fatal(err)
	}
	return n.aead.Seal(nil, nil, n.enc.EncodeAll(data, nil), nil)
}

func (n *naive) open(b *testing.B, data []byte) (events []journal.Event) {
	b.Helper()
	plain, err := n.aead.Open(nil, nil, data, nil)
	if err != nil {
		b.Fatal(err)
	}
	if plain, err = n.dec.DecodeAll(plain, nil); err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(plain, &events); err != nil {
		b.Fatal(err)
	}
	return events
}

func BenchmarkSealBatch(b *testing.B) {
	for _, w := range workloads {
		for _, n := range []int{1, 100, 500} {
			events := w.events(n)
			s, h := sealer(b, seal.GenerateKeyring()), header()
			b.Run(fmt.Sprintf("%s/%d/seal", w.name, n), func(b *testing.B) {
				size := 0
				b.ReportAllocs()
				for b.Loop() {
					data, err := s.Encode(h, events)
					if err != nil {
						b.Fatal(err)
					}
					size = len(data)
				}
				perEvent(b, n, size)
			})
			rival := newNaive(b)
			b.Run(fmt.Sprintf("%s/%d/json", w.name, n), func(b *testing.B) {
				size := 0
				b.ReportAllocs()
				for b.Loop() {
					size = len(rival.encode(b, events))
				}
				perEvent(b, n, size)
			})
		}
	}
}

func BenchmarkOpenBatch(b *testing.B) {
	for _, w := range workloads {
		for _, n := range []int{1, 100, 500} {
			events, k := w.events(n), seal.GenerateKeyring()
			data, o := encode(b, sealer(b, k), events), seal.NewBatchOpener(k)
			b.Run(fmt.Sprintf("%s/%d/seal", w.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := o.Open(data); err != nil {
						b.Fatal(err)
					}
				}
				perEvent(b, n, len(data))
			})
			rival := newNaive(b)
			naive := rival.encode(b, events)
			b.Run(fmt.Sprintf("%s/%d/json", w.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					rival.open(b, naive)
				}
				perEvent(b, n, len(naive))
			})
		}
	}
}

func BenchmarkVault(b *testing.B) {
	v := seal.NewVault(seal.GenerateKeyring(), &store{})
	id, blob := sealed(b, v, acme, string(noise(200)))
	b.Run("Seal", func(b *testing.B) {
		plain := noise(200)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Seal(b.Context(), acme, id, journal.PurposeContext, journal.Ref{5}, plain); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Open(b.Context(), acme, id, journal.PurposeContext, journal.Ref{5}, blob); err != nil {
				b.Fatal(err)
			}
		}
	})
}
