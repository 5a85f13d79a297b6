package replay_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// workload is a journal of batches of size events. Of its events the given share are accesses, spread over all
// sessions so far; the rest are creates with a 200-byte context. It is the same for all who replay it.
type workload struct {
	name     string
	accesses int // per cent
	size     int
}

var workloads = []workload{
	{"created", 0, 100}, {"mixed", 90, 100}, {"accessed", 99, 100}, {"single", 90, 1},
}

const benchEvents = 200_000

func (w workload) batches() (out [][]journal.Event) {
	n := min(benchEvents, 50_000*w.size)
	sessions := 0
	for i := 0; i < n; i += w.size {
		batch := make([]journal.Event, 0, w.size)
		for j := i; j < i+w.size; j++ {
			at := replaytest.Start.Add(time.Duration(j) * time.Millisecond)
			if j%100 < w.accesses && sessions > 0 {
				batch = append(batch, journal.Event{
					Kind: journal.KindAccessed, Ref: replaytest.Ref(j * 7919 % sessions), At: at, Epoch: 0,
					Call: journal.Call{Number: uint64(j), Method: "tools/call", Tool: "n8n_list_workflows", Outcome: journal.OutcomeOK, Duration: time.Millisecond},
				})
				continue
			}
			batch = append(batch, benchCreated(sessions, at))
			sessions++
		}
		out = append(out, batch)
	}
	return out
}

func benchCreated(i int, at journal.Instant) journal.Event {
	return journal.Event{
		Kind: journal.KindCreated, Ref: replaytest.Ref(i), At: at,
		Created: &journal.Created{
			Source: journal.SourceClient, ID: make([]byte, 64), Context: make([]byte, 228),
			Tenant: journal.TenantID{byte(i), byte(i >> 8 & 3)}, Label: "tenant", Key: "t-2026-11", Fingerprint: journal.Fingerprint{1},
			URLHash: journal.URLHash{2}, Principal: "token:somebody", Protocol: "2025-06-18", Timeout: 24 * time.Hour,
			Initialize: json.RawMessage(`{"protocolVersion":"2025-06-18","capabilities":{"roots":{"listChanged":true},"sampling":{}},"clientInfo":{"name":"client","version":"1.0.0"}}`),
			CreatedAt:  at, LastAccess: at,
		},
	}
}

func encodeAll(batches [][]journal.Event, encode func(*journal.Header, []journal.Event) []byte) (out []journal.Message) {
	var h journal.Header
	h.Journal, h.Writer = journal.ID{1}, journal.WriterID{1}
	for i, events := range batches {
		h.Number = uint64(i + 1)
		data := encode(&h, events)
		h.Previous = journal.DigestOf(data)
		out = append(out, journal.Message{Seq: journal.Seq(i + 1), Time: events[0].At, Data: data})
	}
	return out
}

func plain(h *journal.Header, events []journal.Event) []byte { return replaytest.Encode(*h, events) }

func perEvent(b *testing.B, events int) {
	b.Helper()
	total := float64(b.N) * float64(events)
	b.ReportMetric(total/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/event")
}

// BenchmarkFold is Apply alone: batches are decoded before.
func BenchmarkFold(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			messages := encodeAll(w.batches(), plain)
			decoded := make([]*journal.Batch, len(messages))
			for i, m := range messages {
				var err error
				if decoded[i], err = (replaytest.Opener{}).Open(m.Data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				s := replay.NewState()
				for i, m := range messages {
					if err := s.Apply(m, decoded[i]); err != nil {
						b.Fatal(err)
					}
				}
			}
			perEvent(b, len(messages)*w.size)
		})
	}
}

// BenchmarkFollow is a restore from a stream in memory: read, open, digest, fold. The rival reads the same
// events, a JSON document a batch and not sealed, into a map.
func BenchmarkFollow(b *testing.B) {
	keys := seal.GenerateKeyring()
	sealer, err := seal.NewBatchSealer(keys, journal.WriterID{1})
	if err != nil {
		b.Fatal(err)
	}
	sealed := func(h *journal.Header, events []journal.Event) []byte {
		data, err := sealer.Encode(h, events)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	for _, w := range workloads {
		batches := w.batches()
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/sealed/workers=%d", w.name, workers), func(b *testing.B) {
				benchFollow(b, encodeAll(batches, sealed), seal.NewBatchOpener(keys), workers, w.size)
			})
		}
		b.Run(w.name+"/plain/workers=1", func(b *testing.B) {
			benchFollow(b, encodeAll(batches, plain), replaytest.Opener{}, 1, w.size)
		})
		b.Run(w.name+"/rival", func(b *testing.B) { benchRival(b, batches, w.size) })
	}
}

func benchFollow(b *testing.B, messages []journal.Message, op replay.Opener, workers, size int) {
	b.Helper()
	stream := new(replaytest.Stream)
	stream.Load(messages...)
	b.ReportAllocs()
	for b.Loop() {
		f, err := replay.Follow(b.Context(), replay.FollowOptions{Source: stream, Opener: op, Workers: workers})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	perEvent(b, len(messages)*size)
}

// rivalSession is what a map of JSON events would keep.
type rivalSession struct {
	Created    *journal.Created
	LastAccess journal.Instant
	Calls      int
}

func benchRival(b *testing.B, batches [][]journal.Event, size int) {
	b.Helper()
	var lines [][]byte
	for _, events := range batches {
		line, err := json.Marshal(events)
		if err != nil {
			b.Fatal(err)
		}
		lines = append(lines, line)
	}
	b.ReportAllocs()
	for b.Loop() {
		table := make(map[journal.Ref]*rivalSession)
		for _, line := range lines {
			var events []journal.Event
			if err := json.Unmarshal(line, &events); err != nil {
				b.Fatal(err)
			}
			for i := range events {
				rivalFold(table, &events[i])
			}
		}
	}
	perEvent(b, len(lines)*size)
}

func rivalFold(table map[journal.Ref]*rivalSession, e *journal.Event) {
	switch e.Kind {
	case journal.KindCreated:
		table[e.Ref] = &rivalSession{Created: e.Created, LastAccess: e.Created.LastAccess}
	case journal.KindAccessed:
		if s := table[e.Ref]; s != nil {
			s.LastAccess = e.At
			s.Calls++
		}
	default:
	}
}

// BenchmarkDue asks a table of 100,000 sessions, each accessed since it was created, for the ten that
// are due.
func BenchmarkDue(b *testing.B) {
	s := replay.NewState()
	batches := [][]journal.Event{}
	for i := 0; i < 100_000; i += 100 {
		var create, access []journal.Event
		for j := i; j < i+100; j++ {
			e := benchCreated(j, replaytest.Start)
			if j < 10 {
				e.Created.Timeout = time.Hour
			}
			create = append(create, e)
			access = append(access, journal.Event{Kind: journal.KindTouched, Ref: e.Ref, At: replaytest.Start})
		}
		batches = append(batches, create, access)
	}
	for _, m := range encodeAll(batches, plain) {
		if err := s.Apply(m, openPlain(b, m)); err != nil {
			b.Fatal(err)
		}
	}
	now := replaytest.Start.Add(2 * time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range s.Due(now) {
			n++
		}
		if n != 10 {
			b.Fatalf("%d are due", n)
		}
	}
}

// BenchmarkTail is the time from storing a batch of one event until a waiter sees it folded.
func BenchmarkTail(b *testing.B) {
	stream := new(replaytest.Stream)
	f, err := replay.Follow(b.Context(), replay.FollowOptions{Source: stream, Opener: replaytest.Opener{}})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := writerOf(1, 1)
	e := touched()
	e.At = replaytest.Start
	b.ReportAllocs()
	for b.Loop() {
		seq := stream.Put(e.At, w.Batch(f.Basis(), e))
		if err := f.WaitFor(b.Context(), seq); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory reports what a dormant session costs, its sealed ID and context of 292 bytes included.
func BenchmarkMemory(b *testing.B) {
	const sessions = 100_000
	var before, after runtime.MemStats
	for b.Loop() {
		s := replay.NewState()
		w := writerOf(1, 1)
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := 0; i < sessions; i += 1000 {
			var events []journal.Event
			for j := i; j < i+1000; j++ {
				events = append(events, benchCreated(j, replaytest.Start))
			}
			m := journal.Message{Seq: s.Seq() + 1, Time: replaytest.Start, Data: w.Batch(journal.Basis{}, events...)}
			if err := s.Apply(m, openPlain(b, m)); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/sessions, "B/session")
}
