package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// journaled makes a data folder whose journal holds one session, and returns the folder and its keyring.
func journaled(t *testing.T) (dir string, k *seal.Keyring) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	s, err := store.Open(t.Context(), store.Options{Dir: dir, Create: true})
	if err == nil {
		err = s.Restore(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	tenant, ref, at := journal.TenantID{7}, journal.NewSessionID().Ref(), journal.InstantOf(time.Now())
	key, finger, err := s.Vault.Key(t.Context(), tenant)
	if err == nil {
		_, err = s.Committer.Append(t.Context(), journal.Event{Kind: journal.KindCreated, Ref: ref, At: at, Created: &journal.Created{
			Source: journal.SourceClient, ID: journal.Sealed("sealed"), Context: journal.Sealed("sealed"), Key: key, Fingerprint: finger,
			Tenant: tenant, Label: "acme", Timeout: time.Hour, CreatedAt: at, LastAccess: at,
		}})
	}
	if err == nil {
		err = s.Close(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, s.Keyring()
}

// without returns the keyring's text without the lines that begin with prefix.
func without(k *seal.Keyring, prefix string) string {
	var kept []string
	for line := range strings.Lines(string(k.Text())) {
		if !strings.HasPrefix(line, prefix) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// TestKeyFaults: whatever is wrong with the keyring, every command says what and what to do next, or works
// where the fault does not concern it. Nothing is ever made up, and the key file stays as it is.
func TestKeyFaults(t *testing.T) {
	dir, k := journaled(t)
	path := filepath.Join(dir, "keys")
	other := seal.GenerateKeyring()
	otherID, _, err := other.Rotate(seal.RingJournal)
	if err != nil {
		t.Fatal(err)
	}
	t2, _, err := k.Rotate(seal.RingTenant)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(k.Text())
	refused := func(say, hint string) [3]string { return [3]string{"3", say, hint} }
	const works = "works"
	for name, row := range map[string]struct {
		file, env string
		mode      os.FileMode
		read      [3]string // what log and sessions ls say: exit code, error, hint
		serve     [3]string
	}{
		"no file":        {mode: 1, read: refused("keyring is missing", "bring the keyring back"), serve: refused("keyring is missing", "bring the keyring back")},
		"empty":          {read: refused("no journal key", "from your copy"), serve: refused("no journal key", "from your copy")},
		"truncated":      {file: whole[:len(whole)/2], read: refused("malformed", "from your copy"), serve: refused("malformed", "from your copy")},
		"no journal":     {file: without(k, "journal"), read: refused("no journal key", "from your copy"), serve: refused("no journal key", "from your copy")},
		"world-readable": {file: whole, mode: 0o644, read: refused("readable by others", "chmod 600"), serve: refused("readable by others", "chmod 600")},
		"another's":      {file: string(other.Text()), read: refused("does not open under its key", "this is not the keyring"), serve: refused("does not open under its key", "this is not the keyring")},
		"another's ID":   {file: without(otherID, "journal j1"), read: refused("j1 is not in the journal ring", "bring the key file that has j1"), serve: refused("j1 is not in the journal ring", "bring the key file that has j1")},
		"reading":        {file: string(k.Reading().Text()), read: [3]string{works}, serve: refused("it is a reading keyring", "bring the complete keyring")},
		"no naming":      {file: without(k, "naming"), read: [3]string{works}, serve: refused("no naming key", "bring the complete keyring")},
		"no t1":          {file: without(t2, "tenant t1"), read: [3]string{works}, serve: refused("t1 is not in the tenant ring", "bring the key file that has t1")},
		"garbage in the environment": {
			file: whole, env: "AAAA", read: refused("DORMOUSE_KEYS: keyring, line 1", "it must hold the text of a key file"),
			serve: refused("DORMOUSE_KEYS: keyring, line 1", "it must hold the text of a key file"),
		},
		"another's in the environment": {
			file: whole, env: string(other.Text()), read: refused("does not open under its key", "this is not the keyring"),
			serve: refused("does not open under its key", "this is not the keyring"),
		},
		"the right one in the environment alone": {mode: 1, env: whole, read: [3]string{works}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DORMOUSE_KEYS", row.env)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if row.mode != 1 {
				if err := os.WriteFile(path, []byte(row.file), max(row.mode, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			says(t, row.read, "sessions", "ls", "--data", dir)
			says(t, row.read, "log", "--data", dir)
			if row.serve[0] != "" {
				says(t, row.serve, "serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin-listen", "off")
			}
			if left, err := os.ReadFile(path); row.mode == 1 && err == nil || row.mode != 1 && string(left) != row.file {
				t.Errorf("the key file is now %q, %v", left, err)
			}
		})
	}
}

// says runs a command that must work or else end with this exit code, error and hint.
func says(t *testing.T, want [3]string, args ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(args, console.Streams{Out: &out, Err: &errs, In: strings.NewReader("")})
	if want[0] == "works" {
		if code != console.ExitOK || !strings.Contains(out.String(), "acme") {
			t.Errorf("%s: exit code %d\n%s%s", args[0], code, &out, &errs)
		}
		return
	}
	_, hint, _ := strings.Cut(errs.String(), "\n  hint: ")
	if code != console.ExitRefused || !strings.Contains(errs.String(), want[1]) || !strings.Contains(hint, want[2]) || out.Len() > 0 {
		t.Errorf("%s: exit code %d, want %q with hint %q\n%s%s", args[0], code, want[1], want[2], &out, &errs)
	}
}
