package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// erasable is a process whose vault knows what the journal says of erased keys.
func (s *site) erasable(tb testing.TB) (p *process, v *seal.Vault) {
	tb.Helper()
	v = seal.NewVault(s.ring, s.keys)
	p = s.boot(tb, "r1", func(o *engine.Options) { o.Vault = v })
	v.ConsultErased(func(t journal.TenantID, k journal.KeyID) (gone bool) {
		p.follower.View(func(st *replay.State) { gone = st.ErasedKey(t, k) })
		return gone
	})
	return p, v
}

// erase erases all that the tenant has now.
func (p *process) erase(v *seal.Vault, t journal.TenantID) {
	p.tb.Helper()
	keys, err := v.Keys(p.tb.Context(), t)
	must(p.tb, err)
	at, err := p.committer.Append(p.tb.Context(), journal.Event{
		Kind: journal.KindTenantErased, At: journal.InstantOf(time.Now()), Note: &journal.Note{Tenant: t, Keys: keys},
	})
	must(p.tb, err)
	must(p.tb, p.follower.WaitFor(p.tb.Context(), at.Seq))
	_, err = v.Erase(p.tb.Context(), t, keys...)
	must(p.tb, err)
}

func TestErasedSessionsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, v := newSite().erasable(t)
		gone, stays := p.create(alice()), p.create(bob())
		must(t, p.request(gone, alice())) // so that both are live
		must(t, p.request(stays, bob()))
		p.erase(v, alice().Tenant)
		p.DropEnded()
		if n := p.SessionInfo().Live; n != 1 {
			t.Errorf("%d live", n)
		}
		wantErr(t, p.request(gone, alice()), engine.ErrUnknownSession)
		must(t, p.request(stays, bob()))
		must(t, p.request(p.create(alice()), alice()))
	})
}

// TestErasedDuringCreate: a session whose tenant is erased during its handshake comes about under a new key.
func TestErasedDuringCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, v := newSite().erasable(t)
		old, _, err := v.Key(t.Context(), alice().Tenant)
		must(t, err)
		l, err := p.Create(t.Context(), alice(), func(ctx context.Context, s *engine.Session) (engine.Opened, error) {
			p.erase(v, alice().Tenant)
			return open(nil)(ctx, s)
		})
		must(t, err)
		defer l.Release()
		if st, ok := l.Session().State(); !ok || st.ContextKey == old {
			t.Errorf("there: %v, under key %s", ok, st.ContextKey)
		}
		if _, err := l.Session().Context(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
