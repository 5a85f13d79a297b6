package journal_test

import (
	"encoding/json"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journalpb"
)

// The codec's rival and its judge: events through the generated messages, straightforwardly.

func nonZero(b []byte) []byte {
	for _, c := range b {
		if c != 0 {
			return b
		}
	}
	return nil
}

func headerToPB(h *journal.Header) *journalpb.Header {
	return &journalpb.Header{
		Journal: nonZero(h.Journal[:]), Key: string(h.Key), Writer: nonZero(h.Writer[:]), Number: h.Number,
		Previous: nonZero(h.Previous[:]), BasisSeq: uint64(h.Basis.Seq), BasisRoot: nonZero(h.Basis.Root[:]),
		First: int64(h.First), Last: int64(h.Last), Count: h.Count, Refs: h.Refs,
	}
}

func eventsToPB(first journal.Instant, events []journal.Event) *journalpb.Events {
	m := &journalpb.Events{Events: make([]*journalpb.Event, len(events))}
	for i := range events {
		m.Events[i] = eventToPB(first, &events[i])
	}
	return m
}

func eventToPB(first journal.Instant, e *journal.Event) *journalpb.Event {
	m := &journalpb.Event{
		Kind: uint32(e.Kind), Ref: nonZero(e.Ref[:]), At: int64(e.At - first), Epoch: uint64(e.Epoch),
		Call: e.Call.Number, Method: e.Call.Method, Tool: e.Call.Tool, Outcome: uint32(e.Call.Outcome),
		Duration: uint64(e.Call.Duration.Microseconds()), Basis: int64(e.Basis), Reason: uint32(e.Reason),
	}
	if c := e.Created; c != nil {
		m.Created = &journalpb.Created{
			Source: uint32(c.Source), IdSealed: uint32(len(c.ID)), ContextSealed: uint32(len(c.Context)),
			Tenant: nonZero(c.Tenant[:]), Label: c.Label, Key: string(c.Key), Fingerprint: nonZero(c.Fingerprint[:]),
			UrlHash: nonZero(c.URLHash[:]), Principal: string(c.Principal), Initialize: c.Initialize,
			Protocol: c.Protocol, Timeout: uint64(c.Timeout.Milliseconds()),
			CreatedAt: int64(c.CreatedAt), LastAccess: int64(c.LastAccess),
		}
	}
	if c := e.Changed; c != nil {
		m.Changed = &journalpb.Changed{
			Tenant: nonZero(c.Tenant[:]), UrlHash: nonZero(c.URLHash[:]), ContextSealed: uint32(len(c.Context)),
			Key: string(c.Key), Fingerprint: nonZero(c.Fingerprint[:]), Principal: string(c.Principal),
			Initialize: c.Initialize, Protocol: c.Protocol, LogLevel: c.LogLevel,
			Subscribed: c.Subscribed, Unsubscribed: c.Unsubscribed,
		}
	}
	if b := e.Bound; b != nil {
		m.Bound = &journalpb.Bound{
			Replica: string(b.Replica), UpstreamSealed: uint32(len(b.Upstream)), Key: string(b.Key),
		}
	}
	if n := e.Note; n != nil {
		m.Note = &journalpb.Note{
			Replica: string(n.Replica), Version: n.Version, Kinds: uint32(n.Kinds), Count: n.Count,
			Tenant: nonZero(n.Tenant[:]), From: uint64(n.From), To: uint64(n.To), Who: n.Who, Text: n.Text,
		}
		for _, k := range n.Keys {
			m.Note.Keys = append(m.Note.Keys, string(k))
		}
	}
	return m
}

func eventsFromPB(first journal.Instant, m *journalpb.Events, sealed []byte) []journal.Event {
	take := func(n uint32) (s []byte) {
		if n > 0 {
			s, sealed = sealed[:n:n], sealed[n:]
		}
		return s
	}
	events := make([]journal.Event, len(m.GetEvents()))
	for i, p := range m.GetEvents() {
		if c := p.GetCreated(); c.GetLike() > 0 {
			o := m.GetEvents()[i-int(c.GetLike())].GetCreated()
			c = proto.CloneOf(c)
			proto.Merge(c, &journalpb.Created{
				Source: o.Source, IdSealed: o.IdSealed, ContextSealed: o.ContextSealed, Tenant: o.Tenant, Label: o.Label,
				Key: o.Key, Fingerprint: o.Fingerprint, UrlHash: o.UrlHash, Principal: o.Principal,
				Initialize: o.Initialize, Protocol: o.Protocol, Timeout: o.Timeout,
			})
			c.CreatedAt = int64(first) + p.GetAt() + c.GetCreatedAfter()
			c.LastAccess = c.CreatedAt + c.GetAccessAfter()
			p.Created = c
		}
		events[i] = eventFromPB(first, p, take)
		take(p.GetLaterSealed())
	}
	return events
}

func eventFromPB(first journal.Instant, m *journalpb.Event, take func(uint32) []byte) journal.Event {
	e := journal.Event{
		Kind: journal.Kind(m.GetKind()), At: first + journal.Instant(m.GetAt()), Epoch: journal.Epoch(m.GetEpoch()),
		Call: journal.Call{
			Number: m.GetCall(), Method: m.GetMethod(), Tool: m.GetTool(), Outcome: journal.Outcome(m.GetOutcome()),
			Duration: time.Duration(m.GetDuration()) * time.Microsecond,
		},
		Basis: journal.Instant(m.GetBasis()), Reason: journal.Reason(m.GetReason()),
	}
	copy(e.Ref[:], m.GetRef())
	if c := m.GetCreated(); c != nil {
		e.Created = &journal.Created{
			Source: journal.Source(c.GetSource()), ID: take(c.GetIdSealed()), Context: take(c.GetContextSealed()),
			Label: c.GetLabel(), Key: journal.KeyID(c.GetKey()), Principal: journal.Principal(c.GetPrincipal()),
			Initialize: json.RawMessage(c.GetInitialize()), Protocol: c.GetProtocol(),
			Timeout:   time.Duration(c.GetTimeout()) * time.Millisecond,
			CreatedAt: journal.Instant(c.GetCreatedAt()), LastAccess: journal.Instant(c.GetLastAccess()),
		}
		copy(e.Created.Tenant[:], c.GetTenant())
		copy(e.Created.URLHash[:], c.GetUrlHash())
		copy(e.Created.Fingerprint[:], c.GetFingerprint())
	}
	if c := m.GetChanged(); c != nil {
		e.Changed = &journal.Changed{
			Context: take(c.GetContextSealed()), Key: journal.KeyID(c.GetKey()),
			Principal: journal.Principal(c.GetPrincipal()), Initialize: json.RawMessage(c.GetInitialize()),
			Protocol: c.GetProtocol(), LogLevel: c.GetLogLevel(),
			Subscribed: c.GetSubscribed(), Unsubscribed: c.GetUnsubscribed(),
		}
		copy(e.Changed.Tenant[:], c.GetTenant())
		copy(e.Changed.URLHash[:], c.GetUrlHash())
		copy(e.Changed.Fingerprint[:], c.GetFingerprint())
	}
	if b := m.GetBound(); b != nil {
		e.Bound = &journal.Bound{
			Replica: journal.ReplicaID(b.GetReplica()), Upstream: take(b.GetUpstreamSealed()),
			Key: journal.KeyID(b.GetKey()),
		}
	}
	if n := m.GetNote(); n != nil {
		e.Note = &journal.Note{
			Replica: journal.ReplicaID(n.GetReplica()), Version: n.GetVersion(), Kinds: journal.Kind(n.GetKinds()),
			Count: n.GetCount(), From: journal.Seq(n.GetFrom()), To: journal.Seq(n.GetTo()),
			Who: n.GetWho(), Text: n.GetText(),
		}
		copy(e.Note.Tenant[:], n.GetTenant())
		for _, k := range n.GetKeys() {
			e.Note.Keys = append(e.Note.Keys, journal.KeyID(k))
		}
	}
	return e
}
