package replaytest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Start is when generated histories begin.
const Start journal.Instant = 1_790_000_000_000

// The pools are small, so that events meet: the same few sessions, tenants, keys and replicas over and over.
const (
	sessions = 5
	tenants  = 2
	replicas = 3
)

// History draws the messages of a stream that several writers wrote into: with clocks that disagree,
// claims and expiries that come too late, batches stored twice, imports of old exports, restarts,
// erased keys, and hours in which nothing happens. It is whole: folding it gives no error.
func History(t *rapid.T) []journal.Message {
	g := &generator{
		t: t, now: Start, journal: journal.ID{1}, state: replay.NewState(),
		seen: make(map[journal.Ref][]replay.Session),
	}
	for i := range replicas {
		g.writers = append(g.writers, g.newWriter(i))
	}
	for range rapid.IntRange(1, 40).Draw(t, "batches") {
		g.step()
	}
	return g.messages
}

type generator struct {
	t        *rapid.T
	journal  journal.ID
	now      journal.Instant
	state    *replay.State
	writers  []*Writer
	boots    byte
	bases    []journal.Basis
	seen     map[journal.Ref][]replay.Session // what sessions once were: exports, stale views
	messages []journal.Message
}

func (g *generator) newWriter(replica int) *Writer {
	g.boots++
	return &Writer{Journal: g.journal, ID: journal.WriterID{g.boots, byte(replica)}}
}

// step stores one batch.
func (g *generator) step() {
	g.now = g.now.Add(pick(g, "pause", 0, time.Millisecond, time.Second, time.Minute, 20*time.Minute, 3*time.Hour, 30*time.Hour, 8*24*time.Hour, 100*24*time.Hour))
	i := rapid.IntRange(0, replicas-1).Draw(g.t, "replica")
	switch rapid.IntRange(0, 19).Draw(g.t, "act") {
	case 0:
		if len(g.messages) > 0 {
			g.put(rapid.SampledFrom(g.messages).Draw(g.t, "stored twice").Data)
			return
		}
	case 1:
		g.writers[i] = g.newWriter(i)
	}
	events := make([]journal.Event, rapid.IntRange(1, 5).Draw(g.t, "events"))
	for n := range events {
		events[n] = g.event(i)
	}
	g.put(g.writers[i].Batch(g.basis(), events...))
}

// put stores the message and folds it, so that later events can refer to what is there.
func (g *generator) put(data []byte) {
	m := journal.Message{Seq: journal.Seq(len(g.messages) + 1), Time: g.now, Data: data}
	if rapid.IntRange(0, 9).Draw(g.t, "stream clock") == 0 {
		m.Time = m.Time.Add(-time.Minute) // the leader changed
	}
	b, err := Opener{}.Open(data)
	if err == nil {
		err = g.state.Apply(m, b)
	}
	if err != nil {
		g.t.Fatalf("the generated history is not whole: %v", err)
	}
	g.messages = append(g.messages, m)
	g.bases = append(g.bases, journal.Basis{Seq: g.state.Seq(), Root: g.state.Root()})
	for s := range g.state.All() {
		g.seen[s.Ref] = append(g.seen[s.Ref], s)
	}
}

// basis is none, or one of the last few.
func (g *generator) basis() journal.Basis {
	back := rapid.IntRange(0, 4).Draw(g.t, "basis")
	if back == 0 || back > len(g.bases) {
		return journal.Basis{}
	}
	return g.bases[len(g.bases)-back]
}

func (g *generator) event(replica int) journal.Event {
	ref := Ref(rapid.IntRange(0, sessions-1).Draw(g.t, "session"))
	e := journal.Event{
		Ref: ref,
		At:  g.now.Add(pick(g, "clock", 0, 0, 0, -time.Second, -10*time.Minute, time.Hour)),
	}
	s := g.view(ref)
	e.Epoch = s.Epoch
	switch rapid.IntRange(0, 12).Draw(g.t, "kind") {
	case 0, 1, 2:
		e.Kind, e.Created = journal.KindCreated, g.created(ref)
	case 3:
		e.Kind, e.Call = journal.KindOpened, journal.Call{Number: 1, Method: "tools/call", Tool: "t"}
	case 4, 5:
		e.Kind = journal.KindAccessed
		e.Call = journal.Call{Number: 1, Method: "tools/call", Tool: "t", Outcome: journal.OutcomeOK, Duration: time.Millisecond}
	case 6:
		e.Kind, e.Epoch = journal.KindTouched, 0
	case 7:
		e.Kind, e.Changed = journal.KindChanged, g.changed(&s)
	case 8, 9:
		e.Kind, e.Bound = journal.KindBound, g.bound(&e, replica)
	case 10:
		e.Kind, e.Basis = journal.KindExpired, s.LastAccess
	case 11:
		e.Kind, e.Reason = journal.KindClosed, pick(g, "reason", journal.ReasonClient, journal.ReasonEvicted)
	case 12:
		return g.forRecord(e.At)
	}
	return e
}

// view is the session as the writer believes it to be: mostly as it is.
func (g *generator) view(ref journal.Ref) replay.Session {
	old := g.seen[ref]
	if now, ok := g.state.Session(ref); ok && rapid.IntRange(0, 3).Draw(g.t, "stale") > 0 {
		return now
	}
	if len(old) == 0 {
		return replay.Session{Ref: ref, Tenant: journal.TenantID{1}}
	}
	return rapid.SampledFrom(old).Draw(g.t, "view")
}

func (g *generator) created(ref journal.Ref) *journal.Created {
	c := &journal.Created{
		Source: journal.SourceClient, ID: journal.Sealed("id of " + ref.String()), Context: journal.Sealed("context"),
		Tenant: g.tenant(), Label: "label", Key: g.key(), Fingerprint: journal.Fingerprint{7},
		URLHash: journal.URLHash{9}, Principal: "principal", Initialize: json.RawMessage(`{"a":1}`),
		Protocol: "2025-06-18", Timeout: pick(g, "timeout", time.Minute, 30*time.Minute, 24*time.Hour),
		CreatedAt: g.now, LastAccess: g.now,
	}
	if rapid.Bool().Draw(g.t, "import") {
		c.Source, c.Principal, c.Initialize, c.Protocol = journal.SourceImport, "", nil, ""
		if old := g.seen[ref]; len(old) > 0 {
			s := rapid.SampledFrom(old).Draw(g.t, "export")
			c.CreatedAt, c.LastAccess = s.CreatedAt, s.LastAccess
		}
	}
	return c
}

func (g *generator) changed(s *replay.Session) *journal.Changed {
	c := &journal.Changed{Tenant: s.Tenant, URLHash: journal.URLHash{9}}
	switch rapid.IntRange(0, 4).Draw(g.t, "change") {
	case 0:
		c.Context, c.Key, c.Fingerprint = journal.Sealed("newer context"), g.key(), journal.Fingerprint{8}
	case 1:
		c.Principal, c.Initialize, c.Protocol = "other", json.RawMessage(`{"b":2}`), "2025-11-25"
	case 2:
		c.LogLevel, c.Subscribed = "debug", []string{"b", "a"}
	case 3:
		c.Unsubscribed = []string{"a"}
	case 4:
		c.Tenant = g.tenant()
	}
	return c
}

// bound claims the next epoch, or records an upstream session at the current one.
func (g *generator) bound(e *journal.Event, replica int) *journal.Bound {
	b := &journal.Bound{Replica: journal.ReplicaID(fmt.Sprintf("replica-%d", replica))}
	if kind := rapid.IntRange(0, 2).Draw(g.t, "binding"); kind < 2 {
		e.Epoch++
		if kind == 0 {
			return b
		}
	}
	b.Upstream, b.Key = journal.Sealed(fmt.Sprintf("upstream %d", len(g.messages))), g.key()
	return b
}

func (g *generator) forRecord(at journal.Instant) journal.Event {
	kind := pick(g, "record", journal.KindReplicaStarted, journal.KindExported, journal.KindReplicaStopped, journal.KindTenantErased)
	e := journal.Event{Kind: kind, At: at, Note: &journal.Note{Count: 1}}
	if kind == journal.KindTenantErased {
		e.Note.Tenant, e.Note.Keys = g.tenant(), []journal.KeyID{g.key()}
	}
	return e
}

func (g *generator) tenant() journal.TenantID {
	return journal.TenantID{byte(rapid.IntRange(1, tenants).Draw(g.t, "tenant"))}
}

func (g *generator) key() journal.KeyID { return pick[journal.KeyID](g, "key", "k1", "k2", "k3") }

func pick[T any](g *generator, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(g.t, label)
}

// Ref returns the i-th of a sequence of refs.
func Ref(i int) journal.Ref {
	sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
	return journal.Ref(sum[:16])
}
