package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// replica is one of several stores on one journal, with a key file of its own.
type replica struct {
	*store.Store

	keys  string
	url   string
	found chan struct{}
}

func (r *replica) give(t *testing.T, k *seal.Keyring) {
	t.Helper()
	if err := seal.Save(r.keys, k); err != nil {
		t.Fatal(err)
	}
}

func replicas(t *testing.T) (a, b *replica) {
	t.Helper()
	url := natsServer(t)
	first := seal.GenerateKeyring()
	start := func(name string) *replica {
		dir := t.TempDir()
		r := &replica{keys: filepath.Join(dir, "keys"), url: url, found: make(chan struct{}, 1)}
		r.give(t, first)
		r.Store = open(t, store.Options{
			Dir: dir, Create: true, NATSURL: url, Replica: journal.ReplicaID(name),
			KeysFound: func() { r.found <- struct{}{} },
		})
		return r
	}
	return start("a"), start("b")
}

// caughtUp waits until r has folded what the leader names.
func (r *replica) caughtUp(t *testing.T) error {
	t.Helper()
	return r.Follower.CatchUp(t.Context())
}

// TestRotateOnSeveralReplicas goes by the book: prepare, give to all, rotate, give to all.
func TestRotateOnSeveralReplicas(t *testing.T) {
	t.Parallel()
	a, b := replicas(t)
	defer closeStore(t, a.Store)
	defer closeStore(t, b.Store)
	x := begin(t, a.Store, acme, "acme")
	prepare := both
	prepare.Prepare = true
	if _, err := a.Rotate(t.Context(), prepare); err != nil {
		t.Fatal(err)
	}
	b.give(t, a.Keyring())
	if changed, _, err := b.Reload(t.Context()); !changed || err != nil {
		t.Fatal(changed, err)
	}
	r, err := a.Rotate(t.Context(), both)
	if err != nil || r.Rings[0].To != "j2" || r.Wrapped != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	// b still seals under the former keys, opens what a seals, and undoes nothing.
	y, z := begin(t, a.Store, globex, "globex"), begin(t, b.Store, journal.TenantID{5}, "late")
	if n, err := b.ResumeKeys(t.Context()); n != 0 || err != nil {
		t.Errorf("b wrapped %d back: %v", n, err)
	}
	b.give(t, a.Keyring())
	if changed, n, err := b.Reload(t.Context()); !changed || n != 1 || err != nil {
		t.Errorf("b goes over: %v, %d, %v", changed, n, err)
	}
	if again, n, err := b.Reload(t.Context()); again || n != 0 || err != nil {
		t.Errorf("again: %v, %d, %v", again, n, err)
	}
	for _, r := range []*replica{a, b} {
		if err := r.caughtUp(t); err != nil {
			t.Fatal(err)
		}
		for _, one := range []secretOf{x, y, z} {
			if plain, err := open1(t.Context(), r.Store, one); err != nil || !strings.Contains(string(plain), canary) || !present(r.Store, one) {
				t.Errorf("%v", err)
			}
		}
	}
	if got := keysIn(t, a.Store); got != "j1 older 2, j2 current 5, t1 older 0, t2 current 3" {
		t.Error(got)
	}
}

// TestRestoreOvertaken: while one replica loads a snapshot, another one takes a newer one and trims the stream up to it.
func TestRestoreOvertaken(t *testing.T) {
	t.Parallel()
	a, b := replicas(t)
	defer closeStore(t, a.Store)
	k, err := a.KeepSnapshots(t.Context(), snapshot.KeeperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	take := func() journal.Seq {
		r, err := k.Take(t.Context())
		if err != nil {
			t.Error(err)
		}
		return r.Seq
	}
	begin(t, a.Store, acme, "acme")
	take()
	begin(t, a.Store, globex, "globex")
	closeStore(t, b.Store)
	times := 0
	c := open(t, store.Options{
		Dir: t.TempDir(), KeyFile: b.keys, NATSURL: b.url, Replica: "c",
		Progress: func(p replay.Progress) {
			if p.Seq > 0 || times == 3 {
				return // the load is over
			}
			times++
			begin(t, a.Store, acme, "acme")
			if err := a.Journal.Trim(t.Context(), take()+1); err != nil {
				t.Error(err)
			}
		},
	})
	defer closeStore(t, c)
	sessions := 0
	c.Follower.View(func(s *replay.State) { sessions = s.Len() })
	if times == 0 || sessions != 2+times {
		t.Errorf("overtaken %d times, %d sessions", times, sessions)
	}
}

// TestUnknownKey: a replica that was not given the keys stops and says which key it lacks, and one that finds it in
// its file goes on.
func TestUnknownKey(t *testing.T) {
	t.Parallel()
	a, b := replicas(t)
	defer closeStore(t, a.Store)
	if _, err := a.Rotate(t.Context(), both); err != nil {
		t.Fatal(err)
	}
	err := b.caughtUp(t)
	var lacks *seal.RingKeyError
	if !errors.As(err, &lacks) || lacks.ID != "j2" || lacks.Ring != seal.RingJournal || !errors.Is(err, journal.ErrKeyMissing) {
		t.Errorf("b: %v", err)
	}
	if err := b.Close(t.Context()); !errors.Is(err, journal.ErrKeyMissing) {
		t.Errorf("b ended with %v", err)
	}

	c, d := replicas(t)
	defer closeStore(t, c.Store)
	defer closeStore(t, d.Store)
	next, _, err := c.Keyring().Rotate(seal.RingJournal)
	if err != nil {
		t.Fatal(err)
	}
	d.give(t, next) // and nobody tells d
	c.give(t, next)
	if changed, _, err := c.Reload(t.Context()); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if err := d.caughtUp(t); err != nil {
		t.Errorf("d: %v", err)
	}
	<-d.found
	if d.Keyring().Current(seal.RingJournal) != "j1" {
		t.Error("d went over without being told")
	}
}

// TestEraseOnAnotherReplica: what one replica erases, the other forgets, and it ends what the first left undone.
func TestEraseOnAnotherReplica(t *testing.T) {
	t.Parallel()
	a, b := replicas(t)
	defer closeStore(t, a.Store)
	defer closeStore(t, b.Store)
	x := begin(t, a.Store, acme, "acme")
	if err := b.caughtUp(t); err != nil {
		t.Fatal(err)
	}
	if _, err := open1(t.Context(), b.Store, x); err != nil {
		t.Fatal(err)
	}
	if e, err := a.EraseTenant(t.Context(), acme, ""); err != nil || e.Sessions != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	if err := b.caughtUp(t); err != nil {
		t.Fatal(err)
	}
	if n, err := b.ResumeErasures(t.Context()); n != 0 || err != nil {
		t.Errorf("resumed: %d, %v", n, err)
	}
	if _, err := open1(t.Context(), b.Store, x); !errors.Is(err, journal.ErrKeyErased) {
		t.Errorf("b opens it: %v", err)
	}
	back := begin(t, b.Store, acme, "acme")
	if back.key == x.key || !present(b.Store, back) {
		t.Errorf("key %s, present %v", back.key, present(b.Store, back))
	}
	if e, err := b.EraseTenant(t.Context(), journal.TenantID{99}, ""); err != nil || len(e.Keys)+e.Deleted+e.Sessions != 0 {
		t.Errorf("an unknown tenant: %+v, %v", e, err)
	}
}
