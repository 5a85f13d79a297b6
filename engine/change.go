package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Changes is what Change may replace; zero fields stay, and so do Metadata and Extra of a Context that leaves them out.
type Changes struct {
	Context                  *InstanceContext
	Principal                journal.Principal
	Initialize               json.RawMessage
	Protocol                 string
	LogLevel                 string
	Subscribed, Unsubscribed []string
}

// Change journals a changed event durably and returns when it is folded. It fails with ErrUnknownSession
// when the session has ended, and with ErrClaimLost when the session is taken over again and again meanwhile.
// A new Context must belong to the same tenant and URL: the caller checks that.
func (s *Session) Change(ctx context.Context, c Changes) error {
	const tries = 5
	for range tries {
		st, ok := s.e.look(s.ref)
		if !ok {
			return ErrUnknownSession
		}
		done, err := s.e.change(ctx, &st, c)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("change session %s: %w", s.ref, ErrClaimLost)
}

// change tries it at the epoch that is folded; false says that it may have been too
// old when it was stored; a change can be repeated without harm.
func (e *Engine) change(ctx context.Context, st *replay.Session, c Changes) (bool, error) {
	ev, err := e.changed(ctx, st, c)
	if err != nil {
		return false, err
	}
	pos, err := e.commit(ctx, ev)
	if err != nil {
		return false, fmt.Errorf("change session %s: %w", st.Ref, err)
	}
	now, ok := e.look(st.Ref)
	if !ok {
		return false, ErrUnknownSession
	}
	return now.Epoch == ev.Epoch || now.Epoch == ev.Epoch+1 && now.BoundAt.Compare(pos) > 0, nil
}

func (e *Engine) changed(ctx context.Context, st *replay.Session, c Changes) (journal.Event, error) {
	ch := &journal.Changed{
		Tenant: st.Tenant, URLHash: st.URLHash, Principal: c.Principal,
		Initialize: c.Initialize, Protocol: c.Protocol, LogLevel: c.LogLevel,
		Subscribed: c.Subscribed, Unsubscribed: c.Unsubscribed,
	}
	if c.Context != nil {
		ic := *c.Context
		if err := e.inherit(ctx, &ic, st); err != nil {
			return journal.Event{}, err
		}
		var err error
		if ch.Key, ch.Fingerprint, err = e.o.Vault.Key(ctx, st.Tenant); err != nil {
			return journal.Event{}, fmt.Errorf("tenant key: %w", err)
		}
		if ch.Context, err = e.sealContext(ctx, st.Tenant, ch.Key, st.Ref, &ic); err != nil {
			return journal.Event{}, err
		}
	}
	at := journal.InstantOf(time.Now())
	return journal.Event{Kind: journal.KindChanged, Ref: st.Ref, At: at, Epoch: st.Epoch, Changed: ch}, nil
}

// inherit lets ic keep what the session's context has and ic leaves out. One whose key was erased has nothing left.
func (e *Engine) inherit(ctx context.Context, ic *InstanceContext, st *replay.Session) error {
	if ic.Metadata != nil && ic.Extra != nil {
		return nil
	}
	former, err := e.openContext(ctx, st)
	if err != nil && !errors.Is(err, journal.ErrKeyErased) {
		return err
	}
	ic.inherit(&former)
	return nil
}

func (e *Engine) sealContext(
	ctx context.Context, t journal.TenantID, k journal.KeyID, ref journal.Ref, ic *InstanceContext,
) (journal.Sealed, error) {
	var plain bytes.Buffer
	defer func() { clear(plain.Bytes()) }()
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false) // metadata comes back as it was
	var v any = ic
	if len(ic.Extra) == 0 {
		v = (*plainContext)(ic) // the same text, at less cost
	}
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("context of session %s: %w: metadata is not JSON", ref, journal.ErrMalformed)
	}
	sealed, err := e.o.Vault.Seal(ctx, t, k, journal.PurposeContext, ref, bytes.TrimSpace(plain.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("seal the context of session %s: %w", ref, err)
	}
	return sealed, nil
}
