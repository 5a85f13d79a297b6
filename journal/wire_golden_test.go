package journal_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/dormouse-mcp/dormouse/journal"
)

var update = flag.Bool("update", false, "write the golden file of the current events; never touches older ones")

// current is the golden file that -update writes. Raise its number when oneOfEach grows: files that a
// release has written stay for ever, and must stay readable.
const current = "v1-001.txtar"

// oneOfEach returns an event of every kind with every field set.
func oneOfEach() []journal.Event {
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

// dump tells a batch for people, and for comparison: pointers are followed, names are hexadecimal.
func dump(b *journal.Batch) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%+v unknown:%d\n", b.Header, b.Unknown)
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

func wrapped(b []byte) []byte {
	s := hex.EncodeToString(b)
	var out strings.Builder
	for len(s) > 96 {
		out.WriteString(s[:96] + "\n")
		s = s[96:]
	}
	return []byte(out.String() + s + "\n")
}

func unwrapped(t *testing.T, b []byte) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(b)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func golden() *txtar.Archive {
	events := oneOfEach()
	h := headerOf(events)
	h.Previous, h.Basis = journal.Digest{1}, journal.Basis{Seq: 99, Root: journal.Root{2}}
	meta, _, err := journal.AppendEvents(nil, h.First, events)
	if err != nil {
		panic(err)
	}
	return &txtar.Archive{
		Comment: []byte("A header, the metadata and the sealed bytes of a batch, and what they mean.\n"),
		Files: []txtar.File{
			{Name: "header.hex", Data: wrapped(journal.AppendHeader(nil, h))},
			{Name: "meta.hex", Data: wrapped(meta)},
			{Name: "sealed.hex", Data: wrapped(journal.AppendSealed(nil, events))},
			{Name: "batch.txt", Data: []byte(dump(&journal.Batch{Header: *h, Events: events}))},
		},
	}
}

func TestGoldenWritten(t *testing.T) {
	path := filepath.Join("testdata", "wire", current)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, txtar.Format(golden()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := txtar.Format(golden()); string(got) != string(want) {
		t.Fatalf("this release writes other bytes than %s:\n%s", path, got)
	}
}

func TestGoldenRead(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "wire", "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{}
			for _, f := range a.Files {
				files[f.Name] = f.Data
			}
			h, _, err := journal.ParseHeader(unwrapped(t, files["header.hex"]))
			if err != nil {
				t.Fatal(err)
			}
			b, err := journal.DecodeEvents(&h, unwrapped(t, files["meta.hex"]), unwrapped(t, files["sealed.hex"]))
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(b); got != string(files["batch.txt"]) {
				t.Fatalf("got\n%s\nwant\n%s", got, files["batch.txt"])
			}
		})
	}
}
