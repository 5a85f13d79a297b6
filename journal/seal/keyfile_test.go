package seal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	_, _, err := seal.LoadOrCreate(path, false)
	var e *seal.KeyFileError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &e) || e.Hint == "" || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
	k, created, err := seal.LoadOrCreate(path, true)
	if err != nil || !created || k.Complete() != nil {
		t.Fatal(k, created, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	again, created, err := seal.LoadOrCreate(path, true)
	if err != nil || created || string(again.Text()) != string(k.Text()) {
		t.Fatal(again, created, err)
	}
	only(t, path)
}

func only(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Fatalf("more than the key file is left: %v, %v", entries, err)
	}
}

func TestLoadOrCreateAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	var wg sync.WaitGroup
	texts, made := make([]string, 16), make([]bool, 16)
	for i := range texts {
		wg.Go(func() {
			k, created, err := seal.LoadOrCreate(path, true)
			if err != nil {
				t.Error(err)
				return
			}
			texts[i], made[i] = string(k.Text()), created
		})
	}
	wg.Wait()
	n := 0
	for i := range texts {
		if texts[i] != texts[0] {
			t.Fatal("two keyrings")
		}
		if made[i] {
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d calls say that they made it", n)
	}
	only(t, path)
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644, 0o666} {
		path := filepath.Join(dir, fmt.Sprintf("keys-%o", mode))
		if err := os.WriteFile(path, []byte(testKeys), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := seal.LoadOrCreate(path, true)
		var e *seal.KeyFileError
		if !errors.Is(err, seal.ErrExposed) || !errors.As(err, &e) || !strings.Contains(e.Hint, "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	path := filepath.Join(dir, "junk")
	if err := os.WriteFile(path, []byte("junk"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, _, err := seal.LoadOrCreate(path, true); !errors.Is(err, journal.ErrMalformed) {
		t.Error(err)
	}
	if _, _, err := seal.LoadOrCreate(dir, true); err == nil {
		t.Error("a folder is no key file")
	}
	if _, _, err := seal.LoadOrCreate(filepath.Join(dir, "none", "keys"), true); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestSaveReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	k, _, err := seal.LoadOrCreate(path, true)
	if err != nil {
		t.Fatal(err)
	}
	next := rotated(t, k, seal.RingTenant)
	if err := seal.Save(path, next); err != nil {
		t.Fatal(err)
	}
	got, err := seal.Load(path)
	if err != nil || string(got.Text()) != string(next.Text()) {
		t.Fatal(got, err)
	}
	only(t, path)
	if err := seal.Save(filepath.Join(path, "x"), next); err == nil {
		t.Fatal("saved below a file")
	}
}
