package seal_test

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

var update = flag.Bool("update", false, "write the golden file of the current form; never touches older ones")

// current is the golden file that -update writes. Raise its number when the form grows: files that a release
// has written stay for ever, and must stay readable. Nonces are random, so it is not compared with what
// this release writes.
const current = "v2-001.txtar"

func writeGolden(t *testing.T, path string) {
	t.Helper()
	k := keyring(t, testKeys)
	one := journaltest.OneOfEach()
	data := encode(t, sealer(t, k), append(one, one[0]))
	b, err := seal.NewBatchOpener(k).Open(data)
	if err != nil {
		t.Fatal(err)
	}
	s, lines := hex.EncodeToString(data), ""
	for ; len(s) > 96; s = s[96:] {
		lines += s[:96] + "\n"
	}
	a := &txtar.Archive{
		Comment: []byte("A keyring, a message that is sealed under it, and the batch in it.\n"),
		Files: []txtar.File{
			{Name: "keys", Data: []byte(testKeys)},
			{Name: "message.hex", Data: []byte(lines + s + "\n")},
			{Name: "batch.txt", Data: []byte(journaltest.Dump(b))},
		},
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGoldenMessages(t *testing.T) {
	dir := filepath.Join("testdata", "batch")
	if *update {
		writeGolden(t, filepath.Join(dir, current))
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range a.Files {
				files[f.Name] = string(f.Data)
			}
			data, err := hex.DecodeString(strings.Join(strings.Fields(files["message.hex"]), ""))
			if err != nil {
				t.Fatal(err)
			}
			b, err := seal.NewBatchOpener(keyring(t, files["keys"])).Open(data)
			if err != nil {
				t.Fatal(err)
			}
			if got := journaltest.Dump(b); got != files["batch.txt"] {
				t.Fatalf("got\n%s\nwant\n%s", got, files["batch.txt"])
			}
		})
	}
}
