package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

var both = control.RotateQuery{Rings: []string{"journal", "tenant"}, Who: "somebody"}

// keysIn tells the keyring's keys and their use, counted.
func keysIn(t *testing.T, s *store.Store) string {
	t.Helper()
	k, err := s.Keys(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, x := range k.Keys {
		var n uint64
		if x.Wraps != nil {
			n = uint64(*x.Wraps)
		} else {
			n = *x.Batches
		}
		parts = append(parts, fmt.Sprintf("%s %s %d", x.ID, x.State, n))
	}
	return strings.Join(parts, ", ")
}

// rotations returns what the journal tells of rotations.
func rotations(t *testing.T, s *store.Store) (notes []string) {
	t.Helper()
	err := audit.History(t.Context(), s.Journal, s.Opener, audit.Query{Kinds: []journal.Kind{journal.KindKeyRotated}}, func(en audit.Entry) error {
		n := en.Event.Note
		notes = append(notes, fmt.Sprintf("%s %v %d %s", n.Replica, n.Keys, n.Count, n.Who))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return notes
}

func TestRotate(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true, Replica: "r1"}
	s := open(t, o)
	x, y := begin(t, s, acme, "acme"), begin(t, s, globex, "globex")
	if got := keysIn(t, s); got != "j1 current 2, t1 current 2" {
		t.Fatal(got)
	}
	olds := append(wrapped(t, s, acme), wrapped(t, s, globex)...)
	r, err := s.Rotate(t.Context(), both)
	if err != nil || r.Wrapped != 2 || len(r.Rings) != 2 || r.Rings[0].To != "j2" || r.Rings[1].From != "t1" {
		t.Fatalf("%+v, %v", r, err)
	}
	// At once: the events of the rotation are under the new key.
	if got := keysIn(t, s); got != "j1 older 2, j2 current 2, t1 older 0, t2 current 2" {
		t.Error(got)
	}
	if got := fmt.Sprint(rotations(t, s)); got != "[r1 [j2] 0 somebody r1 [t2] 2 somebody]" {
		t.Error(got)
	}
	if found := files(t, o.Dir, olds); found != nil {
		t.Errorf("the former wraps are still in %v", found)
	}
	info, err := os.Stat(filepath.Join(o.Dir, "keys"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	begin(t, s, journal.TenantID{7}, "later")
	closeStore(t, s)

	s = open(t, o)
	defer closeStore(t, s)
	for _, one := range []secretOf{x, y} {
		if plain, err := open1(t.Context(), s, one); err != nil || !strings.Contains(string(plain), canary) || !present(s, one) {
			t.Errorf("after the restart: %v", err)
		}
	}
	if got := keysIn(t, s); got != "j1 older 2, j2 current 3, t1 older 0, t2 current 3" {
		t.Error(got)
	}
	if n, err := s.ResumeKeys(t.Context()); n != 0 || err != nil || len(rotations(t, s)) != 2 {
		t.Errorf("nothing was left to do: %d, %v", n, err)
	}
	retire(t, s, x)
}

func retire(t *testing.T, s *store.Store, x secretOf) {
	t.Helper()
	r, err := s.RetireKeys(t.Context(), "somebody")
	if err != nil || fmt.Sprint(r.Retired) != "[t1]" {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := keysIn(t, s); got != "j1 older 2, j2 current 4, t2 current 3" {
		t.Error(got)
	}
	if _, err := open1(t.Context(), s, x); err != nil {
		t.Error(err)
	}
	if again, err := s.RetireKeys(t.Context(), ""); err != nil || again.Retired != nil {
		t.Errorf("again: %+v, %v", again, err)
	}
}

// TestRotateInterrupted: whatever a rotation had left to do is done at the next start.
func TestRotateInterrupted(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"the keyring was saved", "some new wraps were stored", "its context ended"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}
			s := open(t, o)
			sessions := []secretOf{begin(t, s, acme, "acme"), begin(t, s, globex, "globex")}
			olds := append(wrapped(t, s, acme), wrapped(t, s, globex)...)
			interrupt(t, s, o, after)
			closeStore(t, s)

			s = open(t, o)
			defer closeStore(t, s)
			if _, err := s.ResumeKeys(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := keysIn(t, s); !strings.HasSuffix(got, "t1 older 0, t2 current 2") {
				t.Error(got)
			}
			if len(rotations(t, s)) == 0 {
				t.Error("the journal does not tell")
			}
			if found := files(t, o.Dir, olds); found != nil {
				t.Errorf("the former wraps are still in %v", found)
			}
			for _, x := range sessions {
				if _, err := open1(t.Context(), s, x); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func interrupt(t *testing.T, s *store.Store, o store.Options, after string) {
	t.Helper()
	path := filepath.Join(o.Dir, "keys")
	if after == "its context ended" {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Rotate(ctx, control.RotateQuery{Rings: []string{"tenant"}}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		return
	}
	next, _, err := s.Keyring().Rotate(seal.RingTenant)
	if err == nil {
		err = seal.Save(path, next)
	}
	if err != nil {
		t.Fatal(err)
	}
	if after == "some new wraps were stored" {
		// Another vault wraps all; then one old wrap comes back.
		old, err := s.Journal.Keys().Load(t.Context(), acme)
		if err == nil {
			_, err = seal.NewVault(next, s.Journal.Keys()).Rewrap(t.Context())
		}
		if err == nil {
			err = s.Journal.Keys().Create(t.Context(), old[0].KeyName, old[0].Wrapped)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRotateRefused(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, s *store.Store, q control.RotateQuery, want string) {
		t.Helper()
		_, err := s.Rotate(t.Context(), q)
		if r, ok := errors.AsType[*control.RefusedError](err); !ok || !strings.Contains(err.Error(), want) || r.Hint == "" {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	text := string(seal.GenerateKeyring().Text())
	s := open(t, store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true, Keys: text})
	refused(t, s, both, "DORMOUSE_KEYS")
	if string(s.Keyring().Text()) != text {
		t.Error("the keyring was changed")
	}
	closeStore(t, s)

	o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}
	s = open(t, o)
	defer closeStore(t, s)
	path := filepath.Join(o.Dir, "keys")
	mine := s.Keyring()
	refused(t, s, control.RotateQuery{Rings: []string{"naming"}}, "no ring")
	for want, k := range map[string]*seal.Keyring{"another deployment": seal.GenerateKeyring(), "reading keyring": mine.Reading()} {
		if err := seal.Save(path, k); err != nil {
			t.Fatal(err)
		}
		refused(t, s, both, want)
		if _, _, err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reload: %v", err)
		}
		if s.Keyring() != mine {
			t.Error("the keyring was changed")
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused(t, s, both, "no such file")
	if _, err := s.RetireKeys(t.Context(), ""); err == nil {
		t.Error("retired without a file")
	}
}

// TestReading: with the journal ring alone the journal folds and can be read, and no secret opens.
func TestReading(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}
	s := open(t, o)
	x := begin(t, s, acme, "acme")
	if _, err := s.Rotate(t.Context(), both); err != nil {
		t.Fatal(err)
	}
	y := begin(t, s, globex, "globex")
	reading := filepath.Join(t.TempDir(), "reading")
	if err := seal.SaveNew(reading, s.Keyring().Reading()); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	s = open(t, store.Options{Dir: o.Dir, KeyFile: reading})
	defer closeStore(t, s)
	n := 0
	err := audit.History(t.Context(), s.Journal, s.Opener, audit.Query{Verdicts: true}, func(en audit.Entry) error {
		n++
		if c := en.Event.Created; c != nil && (bytes.Contains(c.Context, []byte(canary)) || bytes.Contains(c.ID, []byte(x.id.Reveal()))) {
			t.Error("a secret can be read")
		}
		return nil
	})
	if err != nil || n != 8 {
		t.Errorf("%d events, %v", n, err)
	}
	vault := seal.NewVault(s.Keyring(), s.Journal.Keys())
	for _, one := range []secretOf{x, y} {
		if !present(s, one) {
			t.Error("a session is missing")
		}
		if _, err := vault.Open(t.Context(), one.tenant, one.key, journal.PurposeContext, one.id.Ref(), one.context); !errors.Is(err, journal.ErrKeyMissing) {
			t.Errorf("opened: %v", err)
		}
	}
	if _, err := s.Rotate(t.Context(), both); !errors.Is(err, journal.ErrKeyMissing) {
		t.Errorf("rotated: %v", err)
	}
	if _, err := s.EraseTenant(t.Context(), acme, ""); !errors.Is(err, seal.ErrReading) {
		t.Errorf("erased: %v", err)
	}
	if n, err := s.ResumeKeys(t.Context()); n != 0 || err != nil {
		t.Errorf("resumed: %d, %v", n, err)
	}
}
