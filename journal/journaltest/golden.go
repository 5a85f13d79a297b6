package journaltest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// OneOfEach returns an event of every kind with every field set, the same ones at each call: for golden
// files and for seeds of fuzz tests.
func OneOfEach() []journal.Event {
	at := journal.InstantOf(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	ref := journal.SessionID("golden").Ref()
	key, finger := journal.KeyID("d0123456789abcdef"), journal.Fingerprint{1, 2, 3, 4, 5, 6, 7, 8}
	tenant, url := journal.TenantID{0: 0xaa, 15: 0xbb}, journal.URLHash{0: 0xcc, 15: 0xdd}
	events := []journal.Event{
		{Kind: journal.KindCreated, Created: &journal.Created{
			Source: journal.SourceClient, ID: journal.Sealed("sealed session ID"), Context: journal.Sealed("sealed context"),
			Tenant: tenant, Label: "acme", Key: key, Fingerprint: finger, URLHash: url, Principal: "token:ci",
			Initialize: json.RawMessage(`{"protocolVersion":"2025-11-25","capabilities":{}}`), Protocol: "2025-11-25",
			Timeout: 30 * time.Minute, CreatedAt: at, LastAccess: at,
		}},
		{Kind: journal.KindOpened, Call: journal.Call{Number: 1, Method: "tools/call", Tool: "n8n_list_workflows"}},
		{Kind: journal.KindAccessed, Call: journal.Call{
			Number: 1, Method: "tools/call", Tool: "n8n_list_workflows", Outcome: journal.OutcomeToolError,
			Duration: 12345 * time.Microsecond,
		}},
		{Kind: journal.KindTouched},
		{Kind: journal.KindChanged, Changed: &journal.Changed{
			Tenant: tenant, URLHash: url, Context: journal.Sealed("another context"), Key: key, Fingerprint: finger,
			Principal: "token:cd", Initialize: json.RawMessage(`{}`), Protocol: "2025-06-18", LogLevel: "warning",
			Subscribed: []string{"file:///a", "file:///b"}, Unsubscribed: []string{"file:///c"},
		}},
		{Kind: journal.KindBound, Bound: &journal.Bound{Replica: "a", Upstream: journal.Sealed("sealed upstream"), Key: key}},
		{Kind: journal.KindExpired, Basis: at},
		{Kind: journal.KindClosed, Reason: journal.ReasonEvicted},
	}
	for i := range events {
		events[i].Ref, events[i].Epoch = ref, journal.Epoch(i)
	}
	for k := journal.KindReplicaStarted; k <= journal.LastKind; k++ {
		events = append(events, journal.Event{Kind: k, Note: &journal.Note{
			Replica: "a", Version: "v1.2.3", Kinds: journal.LastKind, Count: 42, Tenant: tenant,
			Keys: []journal.KeyID{key, "j2"}, From: 7, To: 9, Who: "admin", Text: "why",
		}})
	}
	for i := range events {
		events[i].At = at.Add(time.Duration(i) * 250 * time.Millisecond)
	}
	return events
}

// Dump tells a batch for people, and for comparison: pointers are followed, names are hexadecimal.
func Dump(b *journal.Batch) string {
	var s strings.Builder
	header := fmt.Sprintf("%+v", b.Header)
	header = strings.Replace(header, " Alike:false", "", 1) // as it was before there was such a thing
	fmt.Fprintf(&s, "%s unknown:%d\n", header, b.Unknown)
	for _, e := range b.Events {
		fmt.Fprintf(&s, "%s %s %s epoch:%d call:%+v basis:%s %s\n", e.Kind, e.Ref, e.At, e.Epoch, e.Call, e.Basis, e.Reason)
		if c := e.Created; c != nil {
			fmt.Fprintf(&s, "\tcreated %+v id:%q context:%q initialize:%q\n", *c, c.ID, c.Context, c.Initialize)
		}
		if c := e.Changed; c != nil {
			fmt.Fprintf(&s, "\tchanged %+v context:%q initialize:%q\n", *c, c.Context, c.Initialize)
		}
		if b := e.Bound; b != nil {
			fmt.Fprintf(&s, "\tbound %+v upstream:%q\n", *b, b.Upstream)
		}
		if n := e.Note; n != nil {
			fmt.Fprintf(&s, "\tnote %+v\n", *n)
		}
	}
	return s.String()
}
