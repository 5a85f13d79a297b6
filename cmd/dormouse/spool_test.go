package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
)

// What was spooled reads as what it was, from anywhere.
func TestSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data")
		got, done, err := readTwice(bytes.NewReader(data), dir, int64(rapid.IntRange(0, 100).Draw(t, "memory")))
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		want := bytes.NewReader(data)
		for range rapid.IntRange(0, 8).Draw(t, "steps") {
			offset, whence := rapid.Int64Range(-50, 250).Draw(t, "offset"), rapid.IntRange(io.SeekStart, io.SeekEnd).Draw(t, "whence")
			at, err := got.Seek(offset, whence)
			wantAt, wantErr := want.Seek(offset, whence)
			if at != wantAt || (err == nil) != (wantErr == nil) {
				t.Fatalf("at %d, %v; want %d, %v", at, err, wantAt, wantErr)
			}
			n := rapid.Int64Range(0, 100).Draw(t, "read")
			a, err := io.ReadAll(io.LimitReader(got, n))
			b, wantErr := io.ReadAll(io.LimitReader(want, n))
			if !bytes.Equal(a, b) || err != nil || wantErr != nil {
				t.Fatalf("%q, %v; want %q, %v", a, err, b, wantErr)
			}
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The file tells nothing to who finds it, and nobody finds it by name.
func TestSpooledFileIsSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, done, err := readTwice(strings.NewReader(strings.Repeat("a secret API key ", 1000)), dir, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	file := r.(*spool).file
	info, err := file.Stat()
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	stored, err := io.ReadAll(io.NewSectionReader(file, 0, info.Size()))
	if err != nil || len(stored) != 17_000 || bytes.Contains(stored, []byte("secret")) {
		t.Errorf("%d bytes, %v", len(stored), err)
	}
	if left, err := os.ReadDir(dir); err != nil || runtime.GOOS != "windows" && len(left) > 0 {
		t.Errorf("it has a name: %v, %v", left, err)
	}
}

func TestSpoolPassesErrorsOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, memory := range []int64{0, 4, 100} {
		r := io.MultiReader(strings.NewReader("something"), iotest.ErrReader(os.ErrDeadlineExceeded))
		if _, _, err := readTwice(r, dir, memory); err == nil || err.Error() != os.ErrDeadlineExceeded.Error() {
			t.Errorf("%d bytes in memory: %v", memory, err)
		}
	}
	if _, _, err := readTwice(strings.NewReader("something"), dir+"/not there", 4); err == nil {
		t.Error("no folder, no error")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// More than stays in memory comes through standard input, is checked, and is there once more.
func TestRestoreFromStandardInput(t *testing.T) {
	t.Parallel()
	const sessions = 60_000
	var in bytes.Buffer
	in.WriteByte('[')
	for i := range sessions {
		if i > 0 {
			in.WriteByte(',')
		}
		fmt.Fprintf(&in, `{"sessionId":"instance-acme-%08d-%016x","context":{"n8nApiUrl":"https://acme.example","n8nApiKey":"%016x","instanceId":"acme"},`+
			`"metadata":{"createdAt":"2026-11-22T10:00:00.000Z","lastAccess":"2026-11-22T10:00:00.000Z"}}`, i, rand.Uint64(), rand.Uint64())
	}
	in.WriteByte(']')
	want := bytes.Clone(in.Bytes())
	if len(want) <= spoolMemory {
		t.Fatal("too small to leave memory")
	}
	dir := t.TempDir()
	f, err := openStates("-", dir, console.Streams{In: &in}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || f.entries != sessions || f.size != int64(len(want)) || !bytes.Equal(got, want) {
		t.Errorf("%d sessions, %d of %d bytes, %v", f.entries, len(got), len(want), err)
	}
	f.close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
