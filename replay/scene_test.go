package replay_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// scene is a journal under construction, folded as it grows. Its time starts at replaytest.Start.
type scene struct {
	t      *testing.T
	state  *replay.State
	now    journal.Instant
	writer *replaytest.Writer
}

func newScene(t *testing.T) *scene {
	t.Helper()
	return &scene{
		t: t, state: replay.NewState(), now: replaytest.Start,
		writer: &replaytest.Writer{Journal: journal.ID{1}, ID: journal.WriterID{1}},
	}
}

func (s *scene) pass(d time.Duration) { s.now = s.now.Add(d) }

// message is the next one in the stream, with the events in it. An event without a time happens now.
func (s *scene) message(events ...journal.Event) journal.Message {
	for i := range events {
		if events[i].At == 0 {
			events[i].At = s.now
		}
	}
	basis := journal.Basis{Seq: s.state.Seq(), Root: s.state.Root()}
	return journal.Message{Seq: s.state.Seq() + 1, Time: s.now, Data: s.writer.Batch(basis, events...)}
}

func (s *scene) fold(events ...journal.Event) []replay.Refusal {
	s.t.Helper()
	return verdicts(s.t, s.state, s.message(events...))
}

// want folds one event and checks the verdict.
func (s *scene) want(why replay.Refusal, e journal.Event) {
	s.t.Helper()
	if got := s.fold(e)[0]; got != why {
		s.t.Fatalf("%v at epoch %d: %q, want %q", e.Kind, e.Epoch, got, why)
	}
}

func (s *scene) session() replay.Session {
	s.t.Helper()
	one, ok := s.state.Session(ref)
	if !ok {
		s.t.Fatalf("the session is not present")
	}
	return one
}

// The session that most scenes are about.
var (
	ref    = replaytest.Ref(0)
	other  = replaytest.Ref(1)
	tenant = journal.TenantID{1}
	url    = journal.URLHash{2}
)

func created(change ...func(*journal.Created)) journal.Event {
	c := &journal.Created{
		Source: journal.SourceClient, ID: journal.Sealed("id"), Context: journal.Sealed("context"),
		Tenant: tenant, Label: "label", Key: "k1", Fingerprint: journal.Fingerprint{3}, URLHash: url,
		Principal: "principal", Initialize: json.RawMessage(`{}`), Protocol: "2025-06-18",
		Timeout: 30 * time.Minute, CreatedAt: replaytest.Start, LastAccess: replaytest.Start,
	}
	for _, f := range change {
		f(c)
	}
	return journal.Event{Kind: journal.KindCreated, Ref: ref, Created: c}
}

// imported makes a created event an import of an export from that time.
func imported(last journal.Instant) func(*journal.Created) {
	return func(c *journal.Created) { c.Source, c.LastAccess = journal.SourceImport, last }
}

func timeout(d time.Duration) func(*journal.Created) {
	return func(c *journal.Created) { c.Timeout = d }
}

func accessed(epoch journal.Epoch) journal.Event {
	return journal.Event{Kind: journal.KindAccessed, Ref: ref, Epoch: epoch}
}

func changed(epoch journal.Epoch, change ...func(*journal.Changed)) journal.Event {
	c := &journal.Changed{Tenant: tenant, URLHash: url}
	for _, f := range change {
		f(c)
	}
	return journal.Event{Kind: journal.KindChanged, Ref: ref, Epoch: epoch, Changed: c}
}

func bound(epoch journal.Epoch, replica journal.ReplicaID, upstream string) journal.Event {
	b := &journal.Bound{Replica: replica, Upstream: journal.Sealed(upstream)}
	if upstream != "" {
		b.Key = "k1"
	}
	return journal.Event{Kind: journal.KindBound, Ref: ref, Epoch: epoch, Bound: b}
}

func expired(basis journal.Instant) journal.Event {
	return journal.Event{Kind: journal.KindExpired, Ref: ref, Basis: basis}
}

func closed(why journal.Reason, epoch journal.Epoch) journal.Event {
	return journal.Event{Kind: journal.KindClosed, Ref: ref, Reason: why, Epoch: epoch}
}

func erased(keys ...journal.KeyID) journal.Event {
	return journal.Event{Kind: journal.KindTenantErased, Note: &journal.Note{Tenant: tenant, Keys: keys}}
}
