package seal_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

var acme = journal.TenantID{1}

// store is a memory store that counts, and that tests can slow down or break.
type store struct {
	memory.Keys

	creates, loads atomic.Int32
	slow           time.Duration
	breakCreate    func(seal.KeyName) error // after it was stored
}

func (s *store) Create(ctx context.Context, name seal.KeyName, wrapped []byte) error {
	s.creates.Add(1)
	if s.slow > 0 {
		time.Sleep(s.slow)
	}
	err := s.Keys.Create(ctx, name, wrapped)
	if err == nil && s.breakCreate != nil {
		return s.breakCreate(name)
	}
	return err
}

func (s *store) Load(ctx context.Context, t journal.TenantID) ([]seal.WrappedKey, error) {
	s.loads.Add(1)
	if s.slow > 0 {
		time.Sleep(s.slow)
	}
	return s.Keys.Load(ctx, t)
}

func (s *store) stored(tb testing.TB) (names []seal.KeyName) {
	tb.Helper()
	for k, err := range s.All(tb.Context()) {
		if err != nil {
			tb.Fatal(err)
		}
		names = append(names, k.KeyName)
	}
	return names
}

func key(tb testing.TB, v *seal.Vault, t journal.TenantID) (journal.KeyID, journal.Fingerprint) {
	tb.Helper()
	id, f, err := v.Key(tb.Context(), t)
	if err != nil {
		tb.Fatal(err)
	}
	return id, f
}

func sealed(tb testing.TB, v *seal.Vault, t journal.TenantID, plain string) (journal.KeyID, journal.Sealed) {
	tb.Helper()
	id, _ := key(tb, v, t)
	s, err := v.Seal(tb.Context(), t, id, journal.PurposeContext, journal.Ref{5}, []byte(plain))
	if err != nil {
		tb.Fatal(err)
	}
	return id, s
}

func opens(tb testing.TB, v *seal.Vault, t journal.TenantID, id journal.KeyID, s journal.Sealed, want string) {
	tb.Helper()
	plain, err := v.Open(tb.Context(), t, id, journal.PurposeContext, journal.Ref{5}, s)
	if err != nil || string(plain) != want {
		tb.Fatalf("%q, %v, want %q", plain, err, want)
	}
}

func TestVaultRoundTrip(t *testing.T) {
	k, s := seal.GenerateKeyring(), &store{}
	v := seal.NewVault(k, s)
	rapid.Check(t, func(rt *rapid.T) {
		tenant := journal.TenantID{rapid.ByteRange(0, 5).Draw(rt, "tenant")}
		purpose := journal.Purpose(rapid.ByteRange(1, 3).Draw(rt, "purpose"))
		ref := journal.Ref(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "ref"))
		plain := rapid.SliceOf(rapid.Byte()).Draw(rt, "plain")
		id, _ := key(t, v, tenant)
		blob, err := v.Seal(t.Context(), tenant, id, purpose, ref, plain)
		if err != nil {
			rt.Fatal(err)
		}
		reader := v
		if rapid.Bool().Draw(rt, "restarted") {
			reader = seal.NewVault(k, s)
		}
		got, err := reader.Open(t.Context(), tenant, id, purpose, ref, blob)
		if err != nil || !bytes.Equal(got, plain) {
			rt.Fatalf("%x, %v, want %x", got, err, plain)
		}
	})
}

// A sealed form opens for its own purpose, session, tenant and key alone, and only unchanged.
func TestSealedIsBound(t *testing.T) {
	v := seal.NewVault(seal.GenerateKeyring(), &store{})
	ctx, other, ref := t.Context(), journal.TenantID{2}, journal.Ref{5}
	id, blob := sealed(t, v, acme, "canary")
	otherID, _ := key(t, v, other)
	if bytes.Contains(blob, []byte("canary")) {
		t.Fatal("plaintext")
	}
	for name, open := range map[string]func() ([]byte, error){
		"purpose": func() ([]byte, error) { return v.Open(ctx, acme, id, journal.PurposeUpstream, ref, blob) },
		"session": func() ([]byte, error) { return v.Open(ctx, acme, id, journal.PurposeContext, journal.Ref{6}, blob) },
		"tenant":  func() ([]byte, error) { return v.Open(ctx, other, otherID, journal.PurposeContext, ref, blob) },
	} {
		if plain, err := open(); plain != nil || !errors.Is(err, journal.ErrWrongKey) {
			t.Errorf("another %s: %q, %v", name, plain, err)
		}
	}
	if _, err := v.Open(ctx, acme, otherID, journal.PurposeContext, ref, blob); !errors.Is(err, journal.ErrKeyMissing) {
		t.Errorf("another tenant's key: %v", err)
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		want := journal.ErrWrongKey
		if i == 0 {
			want = journal.ErrMalformed
		}
		if plain, err := v.Open(ctx, acme, id, journal.PurposeContext, ref, bad); plain != nil || !errors.Is(err, want) {
			t.Fatalf("byte %d: %q, %v", i, plain, err)
		}
		if plain, err := v.Open(ctx, acme, id, journal.PurposeContext, ref, blob[:i]); plain != nil || err == nil {
			t.Fatalf("cut at %d: %q", i, plain)
		}
	}
}

func TestVaultMakesOneKeyForACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{slow: time.Millisecond}
		v := seal.NewVault(seal.GenerateKeyring(), s)
		ids := make([]journal.KeyID, 50)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() { ids[i], _ = key(t, v, acme) })
		}
		wg.Wait()
		if slices.ContainsFunc(ids, func(id journal.KeyID) bool { return id != ids[0] }) {
			t.Fatal(ids)
		}
		if s.creates.Load() != 1 || s.loads.Load() != 2 {
			t.Fatalf("%d creates, %d loads", s.creates.Load(), s.loads.Load())
		}
		sealed(t, v, acme, "x")
		if s.loads.Load() != 2 {
			t.Fatal("a loaded key is loaded again")
		}
	})
}

// Replicas that make a tenant's first key at once, even under different wrapping keys, open what the
// others seal, and agree on one key from then on.
func TestVaultsOfSeveralReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := seal.GenerateKeyring()
		next := rotated(t, k, seal.RingTenant)
		s := &store{slow: time.Millisecond}
		const replicas = 8
		ids, blobs := make([]journal.KeyID, replicas), make([]journal.Sealed, replicas)
		var wg sync.WaitGroup
		for i := range replicas {
			wg.Go(func() {
				v := seal.NewVault(next, s)
				if i%2 == 0 {
					// It still wraps under the older key, and knows both.
					v.Use(keyring(t, markCurrent(next, "t1")))
				}
				ids[i], blobs[i] = sealed(t, v, acme, "x")
			})
		}
		wg.Wait()
		v := seal.NewVault(next, s)
		for i := range replicas {
			opens(t, v, acme, ids[i], blobs[i], "x")
		}
		if slices.ContainsFunc(ids, func(id journal.KeyID) bool { return id != ids[0] }) {
			t.Fatalf("they do not agree: %v", ids)
		}
		if id, _ := key(t, v, acme); id != ids[0] {
			t.Fatalf("a later replica takes %s, not %s", id, ids[0])
		}
	})
}

// markCurrent returns the keyring's text with another current tenant key.
func markCurrent(k *seal.Keyring, id string) string {
	var b bytes.Buffer
	for line := range bytes.Lines(k.Text()) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if bytes.HasPrefix(line, []byte("tenant ")) {
			line = bytes.TrimSuffix(line, []byte(" current"))
			if bytes.HasPrefix(line, []byte("tenant "+id+" ")) {
				line = append(slices.Clip(line), " current"...)
			}
		}
		b.Write(append(slices.Clip(line), '\n'))
	}
	return b.String()
}

// An answer that got lost leaves a key in the store that is as good as any.
func TestVaultAfterALostAnswer(t *testing.T) {
	lost := errors.New("lost")
	s := &store{breakCreate: func(seal.KeyName) error { return lost }}
	v := seal.NewVault(seal.GenerateKeyring(), s)
	if _, _, err := v.Key(t.Context(), acme); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	id, _ := key(t, v, acme)
	if got := s.stored(t); len(got) != 1 || got[0].Key != id {
		t.Fatalf("%v, current %s", got, id)
	}
}

func TestVaultOfAReadingKeyring(t *testing.T) {
	k, s := seal.GenerateKeyring(), &store{}
	id, blob := sealed(t, seal.NewVault(k, s), acme, "x")
	v := seal.NewVault(k.Reading(), s)
	if _, err := v.Open(t.Context(), acme, id, journal.PurposeContext, journal.Ref{5}, blob); !errors.Is(err, journal.ErrKeyMissing) {
		t.Error(err)
	}
	for _, tenant := range []journal.TenantID{acme, {2}} {
		if _, _, err := v.Key(t.Context(), tenant); !errors.Is(err, journal.ErrKeyMissing) {
			t.Error(err)
		}
	}
	if _, err := v.Rewrap(t.Context()); !errors.Is(err, journal.ErrKeyMissing) {
		t.Error(err)
	}
	if len(s.stored(t)) != 1 {
		t.Error("it made a key")
	}
}

func TestVaultOfAnotherKeyring(t *testing.T) {
	s := &store{}
	id, f := key(t, seal.NewVault(seal.GenerateKeyring(), s), acme)
	v := seal.NewVault(seal.GenerateKeyring(), s)
	if _, _, err := v.Key(t.Context(), acme); !errors.Is(err, journal.ErrWrongKey) {
		t.Error(err)
	}
	if err := v.Check(t.Context(), acme, id, f); !errors.Is(err, journal.ErrWrongKey) {
		t.Error(err)
	}
	if len(s.stored(t)) != 1 {
		t.Error("it made a key, which hides that the keyring is the wrong one")
	}
}

func TestVaultWaitsNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{slow: time.Hour}
		v := seal.NewVault(seal.GenerateKeyring(), s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			key(t, v, acme)
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := v.Key(ctx, acme); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-done
	})
}
