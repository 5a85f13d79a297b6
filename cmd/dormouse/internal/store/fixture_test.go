package store_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// canary is what every session's context holds.
const canary = "canary-credential-of-a-tenant"

// secretOf is a session with what it seals.
type secretOf struct {
	id      journal.SessionID
	tenant  journal.TenantID
	key     journal.KeyID
	context journal.Sealed
}

// begin creates a session of a tenant as the engine does.
func begin(t *testing.T, s *store.Store, tenant journal.TenantID, label string) secretOf {
	t.Helper()
	key, finger, err := s.Vault.Key(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	x := secretOf{id: journal.NewSessionID(), tenant: tenant, key: key}
	ref := x.id.Ref()
	seal := func(p journal.Purpose, plain string) journal.Sealed {
		sealed, err := s.Vault.Seal(t.Context(), tenant, key, p, ref, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	x.context = seal(journal.PurposeContext, `{"n8nApiKey":"`+canary+`"}`)
	at := journal.InstantOf(time.Now())
	commit(t, s, journal.Event{Kind: journal.KindCreated, Ref: ref, At: at, Created: &journal.Created{
		Source: journal.SourceClient, ID: seal(journal.PurposeSessionID, x.id.Reveal()), Context: x.context, Key: key,
		Fingerprint: finger, Tenant: tenant, Label: label, Timeout: time.Hour, CreatedAt: at, LastAccess: at,
	}}, journal.Event{Kind: journal.KindBound, Ref: ref, At: at, Epoch: 1, Bound: &journal.Bound{Replica: "r1"}},
		journal.Event{Kind: journal.KindBound, Ref: ref, At: at, Epoch: 1, Bound: &journal.Bound{
			Replica: "r1", Upstream: seal(journal.PurposeUpstream, "upstream"), Key: key,
		}})
	return x
}

func commit(t *testing.T, s *store.Store, events ...journal.Event) {
	t.Helper()
	at, err := s.Committer.Append(t.Context(), events...)
	if err == nil {
		err = s.Follower.WaitFor(t.Context(), at.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func open1(ctx context.Context, s *store.Store, x secretOf) ([]byte, error) {
	return s.Vault.Open(ctx, x.tenant, x.key, journal.PurposeContext, x.id.Ref(), x.context)
}

func present(s *store.Store, x secretOf) (ok bool) {
	s.Follower.View(func(st *replay.State) { _, ok = st.Session(x.id.Ref()) })
	return ok
}

// wrapped returns the stored bytes of a tenant's wrapped keys.
func wrapped(t *testing.T, s *store.Store, tenant journal.TenantID) (all [][]byte) {
	t.Helper()
	keys, err := s.Journal.Keys().Load(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		all = append(all, k.Wrapped)
	}
	return all
}

// files returns the files below dir that hold one of the byte strings.
func files(t *testing.T, dir string, want [][]byte) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, b := range want {
			if bytes.Contains(data, b) {
				found = append(found, path)
				break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
