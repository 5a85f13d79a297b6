package seal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func states(k *seal.Keyring, r seal.Ring) (s string) {
	for _, key := range k.Info(r) {
		state := "older"
		switch {
		case key.Current:
			state = "current"
		case key.Prepared:
			state = "prepared"
		}
		s += fmt.Sprintf("%s %s ", key.ID, state)
	}
	return strings.TrimSpace(s)
}

// A rotation in two halves: prepared keys are carried over, and become current once.
func TestPrepareAndRotate(t *testing.T) {
	k := seal.GenerateKeyring()
	next, id, err := k.Prepare(seal.RingTenant)
	if err != nil || id != "t2" || states(next, seal.RingTenant) != "t1 current t2 prepared" || next.Settled(seal.RingTenant) {
		t.Fatal(states(next, seal.RingTenant), id, err)
	}
	if again, id, err := next.Prepare(seal.RingTenant); err != nil || id != "t2" || again != next {
		t.Fatal("prepared twice", id, err)
	}
	next = keyring(t, string(next.Text()))
	prepared := next.Info(seal.RingTenant)[1].Fingerprint
	next, id, err = next.Rotate(seal.RingTenant)
	if err != nil || id != "t2" || states(next, seal.RingTenant) != "t1 older t2 current" || !next.Settled(seal.RingTenant) {
		t.Fatal(states(next, seal.RingTenant), id, err)
	}
	if next.Info(seal.RingTenant)[1].Fingerprint != prepared {
		t.Fatal("another key than the prepared one")
	}
	if states(k, seal.RingTenant) != "t1 current" || states(next, seal.RingJournal) != "j1 current" {
		t.Fatal("more was changed than the copy's ring")
	}
	if _, _, err := k.Reading().Rotate(seal.RingTenant); !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatal(err)
	}
}

func TestRetire(t *testing.T) {
	k := rotated(t, rotated(t, seal.GenerateKeyring(), seal.RingTenant), seal.RingTenant)
	for _, id := range []journal.KeyID{"t3", "t4", "j1"} {
		if _, err := k.Retire(seal.RingTenant, id); !errors.Is(err, journal.ErrKeyMissing) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range []journal.KeyID{"t1", "t2"} {
		var err error
		if k, err = k.Retire(seal.RingTenant, id); err != nil {
			t.Fatal(err)
		}
	}
	if got := states(k, seal.RingTenant); got != "t3 current" {
		t.Fatal(got)
	}
	if got := states(rotated(t, k, seal.RingTenant), seal.RingTenant); got != "t3 older t4 current" {
		t.Fatalf("the ID of a retired key came back: %s", got)
	}
}

func TestSucceeds(t *testing.T) {
	k := seal.GenerateKeyring()
	next := rotated(t, rotated(t, k, seal.RingTenant), seal.RingJournal)
	retired, err := next.Retire(seal.RingTenant, "t1")
	if err != nil {
		t.Fatal(err)
	}
	other := seal.GenerateKeyring()
	swapped := strings.Replace(string(k.Text()), "naming", "# naming", 1) + namingLine(next)
	swapped = strings.Replace(swapped, tenantLine(k), tenantLine(other), 1)
	for name, row := range map[string]struct {
		old, next *seal.Keyring
		gone      string
		err       error
	}{
		"the same":           {k, k, "[]", nil},
		"rotated":            {k, next, "[]", nil},
		"one retired":        {next, retired, "[t1]", nil},
		"back again":         {next, k, "[]", journal.ErrKeyMissing},
		"reading":            {k, k.Reading(), "[]", journal.ErrKeyMissing},
		"another deployment": {k, other, "[]", journal.ErrWrongKey},
		"another key":        {k, keyring(t, swapped), "[]", journal.ErrWrongKey},
	} {
		gone, err := row.next.Succeeds(row.old)
		if !errors.Is(err, row.err) || fmt.Sprint(gone) != row.gone {
			t.Errorf("%s: %v, %v", name, gone, err)
		}
	}
}

func namingLine(k *seal.Keyring) string { return lineOf(k, "naming ") }
func tenantLine(k *seal.Keyring) string { return lineOf(k, "tenant ") }

func lineOf(k *seal.Keyring, prefix string) string {
	for line := range strings.Lines(string(k.Text())) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}

func TestInfo(t *testing.T) {
	k := keyring(t, "journal j1 "+keyA+"\njournal j2 "+keyB+" 2026-11-22T13:14:15Z current\n")
	list := k.Info(seal.RingJournal)
	if !list[0].Made.IsZero() || !list[1].Made.Equal(time.Date(2026, 11, 22, 13, 14, 15, 0, time.UTC)) {
		t.Errorf("made: %v", list)
	}
	if list[0].Fingerprint == list[1].Fingerprint || len(list[0].Fingerprint) != 16 {
		t.Errorf("fingerprints: %v", list)
	}
	if again := keyring(t, string(k.Text())); fmt.Sprint(again.Info(seal.RingJournal)) != fmt.Sprint(list) {
		t.Errorf("got %v, want %v", again.Info(seal.RingJournal), list)
	}
	if age := time.Since(seal.GenerateKeyring().Info(seal.RingTenant)[0].Made); age < 0 || age > time.Minute {
		t.Errorf("a new key is %v old", age)
	}
	for _, wrong := range []string{"2026-11-22", "2026-11-22T13:14:15+01:00", "2026-11-22T13:14:15.5Z", "current 2026-11-22T13:14:15Z", "current current", "2026-11-22T13:14:15Z x"} {
		if _, err := seal.ParseKeyring([]byte("journal j1 " + keyA + " " + wrong + "\n")); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestSaveNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reading")
	k := seal.GenerateKeyring()
	if err := seal.SaveNew(path, k.Reading()); err != nil {
		t.Fatal(err)
	}
	if err := seal.SaveNew(path, k); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	got, err := seal.Load(path)
	if err != nil || string(got.Text()) != string(k.Reading().Text()) {
		t.Fatal(got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	only(t, path)
}
