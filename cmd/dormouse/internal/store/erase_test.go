package store_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

var acme, globex = journal.TenantID{0xac}, journal.TenantID{0x61}

// TestErase: after an erasure nothing of the tenant opens with all rings at hand, its wrapped keys are in no byte
// of the store's files, and everybody else and the history are as before.
func TestErase(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}
	s := open(t, o)
	gone := []secretOf{begin(t, s, acme, "acme"), begin(t, s, acme, "acme")}
	stays := begin(t, s, globex, "globex")
	// A rotation leaves no wrap behind either.
	bytesOf := wrapped(t, s, acme)
	if _, err := s.Rotate(t.Context(), control.RotateQuery{Rings: []string{"tenant"}}); err != nil {
		t.Fatal(err)
	}
	bytesOf = append(bytesOf, wrapped(t, s, acme)...)
	if found := files(t, o.Dir, bytesOf[1:]); len(found) != 1 {
		t.Fatalf("the search does not find what is there: %v", found)
	}

	e, err := s.EraseTenant(t.Context(), acme, "somebody")
	if err != nil || e.Sessions != 2 || e.Deleted != 1 || len(e.Keys) != 1 || e.Keys[0] != string(gone[0].key) {
		t.Fatalf("%+v, %v", e, err)
	}
	if found := files(t, o.Dir, bytesOf); found != nil {
		t.Errorf("while running, wrapped keys are still in %v", found)
	}
	erased(t, s, gone)
	if plain, err := open1(t.Context(), s, stays); err != nil || !strings.Contains(string(plain), canary) || !present(s, stays) {
		t.Errorf("another tenant: %v", err)
	}
	if again, err := s.EraseTenant(t.Context(), acme, ""); err != nil || len(again.Keys)+again.Deleted+again.Sessions != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	closeStore(t, s)
	if found := files(t, o.Dir, bytesOf); found != nil {
		t.Errorf("after the shutdown, wrapped keys are still in %v", found)
	}

	o.Create = false
	s = open(t, o)
	defer closeStore(t, s)
	if found := files(t, o.Dir, bytesOf); found != nil {
		t.Errorf("opened again, wrapped keys are in %v", found)
	}
	erased(t, s, gone)
	history(t, s, gone)
	back := begin(t, s, acme, "acme")
	if back.key == gone[0].key || !present(s, back) {
		t.Errorf("a new session of the tenant: key %s, present %v", back.key, present(s, back))
	}
	if plain, err := open1(t.Context(), s, back); err != nil || !strings.Contains(string(plain), canary) {
		t.Errorf("it opens: %v", err)
	}
	erased(t, s, gone)
}

// erased checks that sessions are closed and open no more, by this vault or by one that knows nothing but the rings.
func erased(t *testing.T, s *store.Store, gone []secretOf) {
	t.Helper()
	fresh := seal.NewVault(s.Keyring(), s.Journal.Keys())
	for _, x := range gone {
		if present(s, x) {
			t.Errorf("session %s is still there", x.id)
		}
		if _, err := open1(t.Context(), s, x); !errors.Is(err, journal.ErrKeyErased) {
			t.Errorf("opened: %v", err)
		}
		_, err := fresh.Open(t.Context(), x.tenant, x.key, journal.PurposeContext, x.id.Ref(), x.context)
		if !errors.Is(err, journal.ErrKeyMissing) {
			t.Errorf("opened with all rings at hand: %v", err)
		}
	}
}

// history checks that the events of erased sessions can be read, and hold no secret.
func history(t *testing.T, s *store.Store, gone []secretOf) {
	t.Helper()
	kinds := map[journal.Kind]int{}
	err := audit.History(t.Context(), s.Journal, s.Opener, audit.Query{Verdicts: true}, func(en audit.Entry) error {
		kinds[en.Event.Kind]++
		text, err := json.Marshal(control.EventOf(&en))
		if strings.Contains(string(text), canary) || strings.Contains(string(text), gone[0].id.Reveal()) {
			t.Errorf("a secret: %s", text)
		}
		return err
	})
	if err != nil || kinds[journal.KindCreated] != 3 || kinds[journal.KindTenantErased] != 1 || kinds[journal.KindBound] != 6 {
		t.Errorf("%v, %v", kinds, err)
	}
}

// TestEraseInterrupted: the journal says erased, the keys are still there.
func TestEraseInterrupted(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}
	s := open(t, o)
	x, other := begin(t, s, acme, "acme"), begin(t, s, globex, "globex")
	bytesOf := wrapped(t, s, acme)
	commit(t, s, journal.Event{
		Kind: journal.KindTenantErased, At: journal.InstantOf(time.Now()),
		Note: &journal.Note{Tenant: acme, Keys: []journal.KeyID{x.key}, Count: 1},
	})
	closeStore(t, s)

	s = open(t, o)
	if got := tenantStates(t, s); got != "acme:erasing globex:active" {
		t.Errorf("before: %s", got)
	}
	if len(files(t, o.Dir, bytesOf)) != 1 {
		t.Error("the keys are gone already")
	}
	if n, err := s.ResumeErasures(t.Context()); err != nil || n != 1 {
		t.Errorf("resumed: %d, %v", n, err)
	}
	if n, err := s.ResumeErasures(t.Context()); err != nil || n != 0 {
		t.Errorf("resumed again: %d, %v", n, err)
	}
	if found := files(t, o.Dir, bytesOf); found != nil {
		t.Errorf("wrapped keys are still in %v", found)
	}
	if got := tenantStates(t, s); got != "acme:erased globex:active" {
		t.Errorf("after: %s", got)
	}
	erased(t, s, []secretOf{x})
	if _, err := open1(t.Context(), s, other); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	closeStore(t, s)
}

func tenantStates(t *testing.T, s *store.Store) string {
	t.Helper()
	list, err := s.Tenants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for i := range list {
		parts = append(parts, list[i].Label+":"+list[i].State)
	}
	return strings.Join(parts, " ")
}

// TestEraseWithoutKey: a session whose key was lost by damage is closed by an erasure all the same.
func TestEraseWithoutKey(t *testing.T) {
	t.Parallel()
	s := open(t, store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true})
	defer closeStore(t, s)
	x := begin(t, s, acme, "acme")
	if err := s.Journal.Keys().Delete(t.Context(), seal.KeyName{Tenant: acme, Key: x.key, Wrap: "t1"}); err != nil {
		t.Fatal(err)
	}
	if got := tenantStates(t, s); got != "acme:damaged" {
		t.Errorf("before: %s", got)
	}
	e, err := s.EraseTenant(t.Context(), acme, "")
	if err != nil || e.Sessions != 1 || e.Deleted != 0 || len(e.Keys) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if present(s, x) {
		t.Error("the session is still there")
	}
	s.Follower.View(func(st *replay.State) {
		if !st.ErasedKey(acme, x.key) {
			t.Error("the key is not erased")
		}
	})
}

// TestEraseLeavesNoByte erases many tenants in some order, restarts between: first, middle, last and only
// message of the key stream.
func TestEraseLeavesNoByte(t *testing.T) {
	t.Parallel()
	o := store.Options{Dir: filepath.Join(t.TempDir(), "data"), Create: true}
	s := open(t, o)
	const tenants = 12
	var bytesOf [][]byte
	for i := range byte(tenants) {
		begin(t, s, journal.TenantID{i}, "")
		bytesOf = append(bytesOf, wrapped(t, s, journal.TenantID{i})...)
	}
	if found := files(t, o.Dir, bytesOf); len(found) != 1 {
		t.Fatalf("the search does not find what is there: %v", found)
	}
	for i, n := range rand.Perm(tenants) {
		if _, err := s.EraseTenant(t.Context(), journal.TenantID{byte(n)}, ""); err != nil {
			t.Fatal(err)
		}
		if found := files(t, o.Dir, bytesOf[n:n+1]); found != nil {
			t.Errorf("the wrapped key of tenant %d, erased as number %d, is in %v", n, i, found)
		}
		if i == tenants/2 {
			closeStore(t, s)
			s = open(t, o)
		}
	}
	closeStore(t, s)
	if found := files(t, o.Dir, bytesOf); found != nil {
		t.Errorf("wrapped keys are in %v", found)
	}
}
