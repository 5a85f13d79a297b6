package journal_test

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

var update = flag.Bool("update", false, "write the golden file of the current events; never touches older ones")

// current and currentAlike are the golden files that -update writes, one for each version. Raise their numbers when journaltest.OneOfEach grows: files that a
// release has written stay for ever, and must stay readable.
const (
	current      = "v1-001.txtar"
	currentAlike = "v2-001.txtar"
)

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
	events := journaltest.OneOfEach()
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
			{Name: "batch.txt", Data: []byte(journaltest.Dump(&journal.Batch{Header: *h, Events: events}))},
		},
	}
}

// goldenAlike is golden for version 2.
func goldenAlike() *txtar.Archive {
	events := alikeEvents()
	h := headerOf(events)
	var p journal.EventPacker
	meta, _, alike, err := p.Append(nil, h.First, events)
	if err != nil {
		panic(err)
	}
	h.Alike = alike
	return &txtar.Archive{
		Comment: []byte("A header, the metadata and the sealed bytes of a batch whose created events are like one another.\n"),
		Files: []txtar.File{
			{Name: "header.hex", Data: wrapped(journal.AppendHeader(nil, h))},
			{Name: "meta.hex", Data: wrapped(meta)},
			{Name: "sealed.hex", Data: wrapped(journal.AppendSealed(nil, events))},
			{Name: "batch.txt", Data: []byte(journaltest.Dump(&journal.Batch{Header: *h, Events: events}))},
		},
	}
}

func TestGoldenWritten(t *testing.T) {
	for name, a := range map[string]*txtar.Archive{current: golden(), currentAlike: goldenAlike()} {
		path := filepath.Join("testdata", "wire", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := txtar.Format(a); string(got) != string(want) {
			t.Fatalf("this release writes other bytes than %s:\n%s", path, got)
		}
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
			if got := journaltest.Dump(b); got != string(files["batch.txt"]) {
				t.Fatalf("got\n%s\nwant\n%s", got, files["batch.txt"])
			}
		})
	}
}
