package seal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// Keys of tests, told apart by their letters. They are not secret.
const (
	keyA = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
	keyB = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="
	keyC = "Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M="
)

const testKeys = "journal j1 " + keyA + " current\ntenant t1 " + keyB + " current\nnaming " + keyC + "\n"

func keyring(tb testing.TB, text string) *seal.Keyring {
	tb.Helper()
	k, err := seal.ParseKeyring([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func rotated(tb testing.TB, k *seal.Keyring, r seal.Ring) *seal.Keyring {
	tb.Helper()
	next, _, err := k.Rotate(r)
	if err != nil {
		tb.Fatal(err)
	}
	return next
}

func TestKeyringText(t *testing.T) {
	k := seal.GenerateKeyring()
	for range 3 {
		k = rotated(t, rotated(t, k, seal.RingTenant), seal.RingJournal)
	}
	again := keyring(t, string(k.Text()))
	if string(again.Text()) != string(k.Text()) {
		t.Fatalf("got\n%s\nwant\n%s", again.Text(), k.Text())
	}
	if got := fmt.Sprint(again.IDs(seal.RingJournal), again.IDs(seal.RingTenant)); got != "[j1 j2 j3 j4] [t1 t2 t3 t4]" {
		t.Fatal(got)
	}
	if again.Current(seal.RingJournal) != "j4" || again.Current(seal.RingTenant) != "t4" {
		t.Fatal("the rotated key is not the current one")
	}
	if again.Name("x", "y") != k.Name("x", "y") {
		t.Fatal("the naming key is another one")
	}
}

func TestKeyringTextForPeople(t *testing.T) {
	k := keyring(t, "\n# mine\r\n\tjournal  old "+keyA+"\r\n journal new "+keyB+"   current\n\n")
	if k.Current(seal.RingJournal) != "new" {
		t.Fatal(k)
	}
	if err := k.Complete(); !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatal(err)
	}
}

func TestKeyringMalformed(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"nothing":          {"", "no journal key"},
		"comments alone":   {"# journal j1 " + keyA + " current", "no journal key"},
		"no journal ring":  {"tenant t1 " + keyA + " current", "no journal key"},
		"unknown ring":     {"master m1 " + keyA, "line 1"},
		"no key":           {"journal j1", "line 1"},
		"no current":       {"journal j1 " + keyA, "no key of the journal ring is marked current"},
		"no tenant":        {"journal j1 " + keyA + " current\ntenant t1 " + keyB, "no key of the tenant ring is marked current"},
		"two current":      {"journal j1 " + keyA + " current\njournal j2 " + keyB + " current", "line 2"},
		"odd mark":         {"journal j1 " + keyA + " Current", "line 1"},
		"too many words":   {"journal j1 " + keyA + " current now", "line 1"},
		"same ID":          {"journal j1 " + keyA + " current\njournal j1 " + keyB, "a key j1 already"},
		"same key":         {"journal j1 " + keyA + " current\ntenant t1 " + keyA + " current", "twice"},
		"naming is a key":  {"journal j1 " + keyA + " current\nnaming " + keyA, "twice"},
		"two naming":       {"naming " + keyA + "\nnaming " + keyB, "line 2"},
		"naming with ID":   {"naming n1 " + keyA, "line 1"},
		"ID with a dot":    {"journal j.1 " + keyA + " current", "line 1"},
		"long ID":          {"journal " + strings.Repeat("j", 65) + " " + keyA + " current", "line 1"},
		"short key":        {"journal j1 QUFB current", "32 bytes"},
		"long key":         {"journal j1 " + keyA[:43] + "FBQUE= current", "32 bytes"},
		"URL base64":       {"journal j1 " + strings.Repeat("-_", 21) + "8= current", "32 bytes"},
		"odd last bits":    {"journal j1 " + keyA[:42] + "F= current", "32 bytes"},
		"no padding":       {"journal j1 " + keyA[:43] + " current", "32 bytes"},
		"not text":         {"\x00\xff\xfe", "line 1"},
		"error on line 12": {strings.Repeat("#\n", 11) + "journal", "line 12"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := seal.ParseKeyring([]byte(row.text))
			if !errors.Is(err, journal.ErrMalformed) || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %v, want ... %s ...", err, row.want)
			}
			if strings.Contains(err.Error(), keyA[:8]) {
				t.Fatalf("a key stands in the message: %v", err)
			}
		})
	}
}

func FuzzKeyring(f *testing.F) {
	f.Add([]byte(testKeys))
	f.Add([]byte("# c\njournal a-1 " + keyA + "\njournal b " + keyB + " current\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := seal.ParseKeyring(text)
		if err != nil {
			if !errors.Is(err, journal.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := seal.ParseKeyring(k.Text())
		if err != nil || string(again.Text()) != string(k.Text()) {
			t.Fatalf("%v\n%s\n%s", err, k.Text(), again.Text())
		}
	})
}

func TestReadingKeyring(t *testing.T) {
	full := keyring(t, testKeys)
	k := full.Reading()
	if string(k.Text()) == string(full.Text()) || strings.Contains(string(k.Text()), keyB) || strings.Contains(string(k.Text()), keyC) {
		t.Fatalf("it tells too much:\n%s", k.Text())
	}
	if again := keyring(t, string(k.Text())); again.Current(seal.RingJournal) != "j1" || again.IDs(seal.RingTenant) != nil {
		t.Fatal(again)
	}
	if err := k.Complete(); !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatal(err)
	}
	if err := full.Complete(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Rotate(seal.RingTenant); !errors.Is(err, journal.ErrKeyMissing) {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("a name without a naming key")
		}
	}()
	k.Name("tenant", "x")
}

func TestNames(t *testing.T) {
	k := keyring(t, testKeys)
	// Names are in journals: they must never change.
	if got := fmt.Sprintf("%x", k.Name("tenant", "https://n8n.example", "42")); got != "6ca69391b704fb0b31d4f1a5583d5704" {
		t.Fatal(got)
	}
	seen := map[[16]byte]string{}
	for _, parts := range [][]string{
		{"a"}, {"a", ""}, {"a", "", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"ab", ""}, {"a", "b", "c"}, {"a", "bc"}, {"a\x00b"}, {},
	} {
		for _, domain := range []string{"tenant", "url", ""} {
			name := k.Name(domain, parts...)
			if other, taken := seen[name]; taken {
				t.Fatalf("%s %q and %s have one name", domain, parts, other)
			}
			seen[name] = fmt.Sprintf("%s %q", domain, parts)
		}
	}
	if k.Name("tenant", "a") == seal.GenerateKeyring().Name("tenant", "a") {
		t.Fatal("the name does not depend on the key")
	}
}

func TestRotateLeavesTheOldKeyringAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := seal.GenerateKeyring()
		for range rapid.IntRange(1, 5).Draw(t, "rotations") {
			r := rapid.SampledFrom([]seal.Ring{seal.RingJournal, seal.RingTenant}).Draw(t, "ring")
			before := string(k.Text())
			next, id, err := k.Rotate(r)
			if err != nil || next.Current(r) != id || string(k.Text()) != before {
				t.Fatal(id, err)
			}
			k = next
		}
	})
}

func TestRotateTakesAFreeID(t *testing.T) {
	k := keyring(t, "journal j2 "+keyA+" current\n")
	if _, id, err := k.Rotate(seal.RingJournal); err != nil || id != "j3" {
		t.Fatal(id, err)
	}
}

func TestKeyringIsNotFormatted(t *testing.T) {
	k := keyring(t, testKeys)
	j, err := json.Marshal(map[string]any{"keys": k})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), fmt.Sprintf("%q", k), string(j)} {
		for _, secret := range []string{keyA[:8], "AAAA", "65 65", "0x41", "4141"} {
			if strings.Contains(s, secret) {
				t.Errorf("a key stands in %s", s)
			}
		}
	}
}
