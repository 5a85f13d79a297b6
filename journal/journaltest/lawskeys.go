package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func keysLaw(u underTest) {
	t, h := u.t, u.Harness
	ctx, keys := within(t), h.Keys
	a, b := journal.TenantID{1}, journal.TenantID{2}
	names := []seal.KeyName{
		{Tenant: a, Key: "key-1", Wrap: "ring-1"},
		{Tenant: b, Key: "key-1", Wrap: "ring-1"},
		{Tenant: a, Key: "key-1", Wrap: "ring-2"},
		{Tenant: a, Key: "key-2", Wrap: "ring-2"},
	}
	wantKeys(t, h, nil)
	for i, n := range names {
		must(t, keys.Create(ctx, n, payload(i)))
		if err := keys.Create(ctx, n, []byte("another")); !errors.Is(err, seal.ErrKeyExists) {
			t.Errorf("created twice: %v", err)
		}
	}
	wantKeys(t, h, names, 0, 1, 2, 3)
	if got, err := keys.Load(ctx, a); err != nil || len(got) != 3 || got[0].KeyName != names[0] || got[2].KeyName != names[3] {
		t.Errorf("load: %v, %v", got, err)
	}
	if got, err := keys.Load(ctx, journal.TenantID{3}); err != nil || len(got) != 0 {
		t.Errorf("load of a tenant without keys: %v, %v", got, err)
	}
	for range 2 {
		must(t, keys.Delete(ctx, names[0]))
		must(t, keys.Delete(ctx, names[3]))
		wantKeys(t, h, names, 1, 2)
	}
	must(t, keys.Create(ctx, names[0], payload(0)))
	wantKeys(t, h, names, 1, 2, 0)
	for range all(t, h) {
		break // must not hang or panic
	}
}

// wantKeys checks that the store has exactly the keys names[i], in this order, with payload(i) in each.
func wantKeys(t *testing.T, h Harness, names []seal.KeyName, which ...int) {
	t.Helper()
	got := all(t, h)
	if len(got) != len(which) {
		t.Fatalf("%d keys, want %d", len(got), len(which))
	}
	for i, w := range which {
		if got[i].KeyName != names[w] || !bytes.Equal(got[i].Wrapped, payload(w)) {
			t.Errorf("key %d is %v %q, want %v", i, got[i].KeyName, got[i].Wrapped, names[w])
		}
	}
}

func all(t *testing.T, h Harness) (keys []seal.WrappedKey) {
	t.Helper()
	for k, err := range h.Keys.All(within(t)) {
		must(t, err)
		keys = append(keys, k)
	}
	return keys
}

func keysHaveOneCreator(u underTest) {
	t, h := u.t, u.Harness
	for round := range 10 {
		name := seal.KeyName{Tenant: journal.TenantID{9}, Key: journal.KeyID(fmt.Sprintf("key-%d", round)), Wrap: "ring"}
		var winners atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				switch err := h.Keys.Create(within(t), name, payload(round)); {
				case err == nil:
					winners.Add(1)
				case !errors.Is(err, seal.ErrKeyExists):
					t.Errorf("a loser: %v", err)
				}
				if got, err := h.Keys.Load(within(t), name.Tenant); err != nil || len(got) != round+1 {
					t.Errorf("afterwards there are %d keys, want %d: %v", len(got), round+1, err)
				}
			})
		}
		wg.Wait()
		if winners.Load() != 1 {
			t.Fatalf("%d creators", winners.Load())
		}
	}
}
