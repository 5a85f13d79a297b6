package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// ExportSessionState returns all sessions that have not timed out and have a complete context, as the
// seed API does. Nothing is lost without it: it is for moving sessions elsewhere. Sessions whose tenant was
// erased are left out; a tenant key that is missing is an error. The result holds credentials in plaintext.
func (e *Engine) ExportSessionState(ctx context.Context) ([]SessionState, error) {
	states := []SessionState{}
	n, err := e.exportEach(ctx, func(s SessionState) error {
		states = append(states, s)
		return nil
	})
	if err == nil {
		err = e.exported(ctx, n, "")
	}
	if err != nil {
		return nil, err
	}
	return states, nil
}

// ExportEach is ExportSessionState for more sessions than should be in memory at once: it calls fn for each,
// by ref, and returns how many it took. An error of fn ends it and is returned. The export is journaled, even if ctx
// has ended, and if that fails, it has failed. One that breaks off is journaled, too, as such, with all that fn was called
// for.
func (e *Engine) ExportEach(ctx context.Context, fn func(SessionState) error) (int, error) {
	return e.ExportReceived(ctx, fn, func() error { return nil })
}

// brokeOff is what the event of an export says that its receiver did not get, or may not have got, to its end.
const brokeOff = "broke off"

// ExportReceived is ExportEach for a receiver who is elsewhere: received waits for its word that it has got everything that fn
// was called for. Without that the export has broken off, and received's error is returned.
func (e *Engine) ExportReceived(ctx context.Context, fn func(SessionState) error, received func() error) (int, error) {
	handed := 0
	n, err := e.exportEach(ctx, func(s SessionState) error {
		handed++ // before fn, which may fail after it has written a part
		return fn(s)
	})
	if err == nil {
		err = received()
	}
	switch {
	case err == nil:
		err = e.exported(ctx, n, "")
	case handed > 0:
		err = errors.Join(err, e.exported(ctx, handed, brokeOff))
	}
	return n, err
}

// exportNoteTimeout is how long journaling an export may take, which does not end with whoever asked for it.
const exportNoteTimeout = 30 * time.Second

// exported logs and journals that so many sessions were handed out, and what else there is to say.
func (e *Engine) exported(ctx context.Context, n int, what string) error {
	l := e.security("session_export").Int("count", n)
	if what != "" {
		l = l.Str("end", what)
	}
	send(l, "session_export")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportNoteTimeout)
	defer cancel()
	return e.note(ctx, journal.KindExported, n, what)
}

// exportEach is ExportEach without a trace of it.
func (e *Engine) exportEach(ctx context.Context, fn func(SessionState) error) (n int, err error) {
	now := journal.InstantOf(time.Now())
	for chunk := range slices.Chunk(e.refs(), sweepChunk) {
		for _, s := range e.lookAll(chunk) {
			st, ok, err := e.export(ctx, &s, now)
			switch {
			case err != nil:
				return n, fmt.Errorf("export: %w", err)
			case !ok:
				continue
			}
			if err := fn(st); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// note journals that so many sessions were exported or imported.
func (e *Engine) note(ctx context.Context, k journal.Kind, n int, text string) error {
	_, err := e.o.Appender.Append(ctx, journal.Event{
		Kind: k, At: journal.InstantOf(time.Now()), Note: &journal.Note{Replica: e.o.Replica, Count: uint64(n), Text: text},
	})
	if err != nil {
		return fmt.Errorf("journal that sessions were %v: %w", k, unreachable(err))
	}
	return nil
}

func (e *Engine) export(ctx context.Context, s *replay.Session, now journal.Instant) (st SessionState, ok bool, err error) {
	if s.Expires() <= now || len(s.Context) == 0 {
		return st, false, nil
	}
	st, err = e.reveal(ctx, s)
	if errors.Is(err, journal.ErrKeyErased) {
		return st, false, nil
	}
	return st, err == nil && st.Context.Complete(), err
}

func (e *Engine) reveal(ctx context.Context, s *replay.Session) (st SessionState, err error) {
	id, err := e.o.Vault.Open(ctx, s.Tenant, s.IDKey, journal.PurposeSessionID, s.Ref, s.ID)
	if err != nil {
		return st, fmt.Errorf("open the ID of session %s: %w", s.Ref, err)
	}
	st.SessionID = journal.SessionID(id)
	st.Metadata = SessionMetadata{CreatedAt: s.CreatedAt.Time(), LastAccess: s.LastAccess.Time()}
	if st.Context, err = e.openContext(ctx, s); err != nil {
		return st, err
	}
	if st.Context.InstanceID == "" { // as n8n-mcp does; restoring it takes this back
		st.Context.InstanceID = st.SessionID.Reveal()
	}
	return st, nil
}
