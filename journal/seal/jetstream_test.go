package seal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// On the real store: keys survive a restart of the server, a rewrap and an erasure leave no byte of what they
// delete in the files, and no credential is ever there.
func TestVaultOnJetStream(t *testing.T) {
	dir := t.TempDir()
	k := seal.GenerateKeyring()
	var id journal.KeyID
	var blob journal.Sealed
	var first, second [][]byte // wraps, by their ciphertexts

	onServer(t, dir, func(s seal.KeyStore) {
		v := seal.NewVault(k, s)
		id, blob = sealed(t, v, acme, "canary-credential")
		key(t, v, journal.TenantID{2})
		first = wrapsIn(t, s)
	})
	k = rotated(t, k, seal.RingTenant)
	onServer(t, dir, func(s seal.KeyStore) {
		v := seal.NewVault(k, s)
		opens(t, v, acme, id, blob, "canary-credential")
		if n, err := v.Rewrap(t.Context()); err != nil || n != 2 {
			t.Fatal(n, err)
		}
		opens(t, seal.NewVault(k, s), acme, id, blob, "canary-credential")
		second = wrapsIn(t, s)
		if erased, err := v.Erase(t.Context(), acme, id); err != nil || len(erased) != 1 {
			t.Fatal(erased, err)
		}
	})
	onServer(t, dir, func(s seal.KeyStore) {
		v := seal.NewVault(k, s)
		if _, err := v.Open(t.Context(), acme, id, journal.PurposeContext, journal.Ref{5}, blob); !errors.Is(err, journal.ErrKeyMissing) {
			t.Fatal(err)
		}
		if tenants, err := v.Tenants(t.Context()); err != nil || len(tenants) != 1 || tenants[0].Tenant != (journal.TenantID{2}) {
			t.Fatal(tenants, err)
		}
	})
	for i, gone := range [][]byte{first[0], first[1], second[0], []byte("canary")} {
		if path := holding(t, dir, gone); path != "" {
			t.Errorf("what was deleted (%d) is still in %s", i, path)
		}
	}
	if holding(t, dir, second[1]) == "" {
		t.Error("the other tenant's key is gone")
	}
}

func onServer(t *testing.T, dir string, fn func(seal.KeyStore)) {
	t.Helper()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, err = os.Stat(filepath.Join(dir, "made"))
	j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: errors.Is(err, fs.ErrNotExist)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "made"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fn(j.Keys())
}

func wrapsIn(t *testing.T, s seal.KeyStore) (wraps [][]byte) {
	t.Helper()
	for k, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, bytes.Clone(k.Wrapped[13:]))
	}
	return wraps
}

// holding returns a file below dir that holds the bytes.
func holding(t *testing.T, dir string, b []byte) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, b) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
