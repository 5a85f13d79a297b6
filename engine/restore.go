package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// RestoreResult counts what became of the sessions that were to be restored.
type RestoreResult struct {
	Restored int     `json:"restored"`
	Skipped  Skipped `json:"skipped"`
}

// Skipped counts sessions that were not restored, by reason.
type Skipped struct {
	Expired   int `json:"expired"`   // timed out, the time while everything was down included
	Duplicate int `json:"duplicate"` // there already, or twice in the input
	Ended     int `json:"ended"`     // closed or expired here before: nothing is resurrected
	Invalid   int `json:"invalid"`
	Limit     int `json:"limit"` // beyond a limit on sessions
}

// Total returns how many were skipped in all.
func (s Skipped) Total() int { return s.Expired + s.Duplicate + s.Ended + s.Invalid + s.Limit }

const (
	restoreEvents = 500       // in one Append
	restoreBytes  = 256 << 10 // of sealed bytes in one Append
	restoreAhead  = 4         // Appends under way at once
	restoreKeys   = 64        // tenants' keys that are asked for at once
)

// RestoreSessionState journals sessions that ExportSessionState gave, here or in n8n-mcp. They are dormant
// until their first request, which must present the full context and binds the caller's principal.
// Restoring twice is restoring once. Sessions that cannot be restored are skipped, counted by reason
// and written to the security log; the limits are those of Create.
//
// When the stream is out of reach it stops with journal.ErrUnavailable or journal.ErrOutcomeUnknown; the result
// then counts what was restored so far, and restoring again completes it. It needs Options.Identify.
func (e *Engine) RestoreSessionState(ctx context.Context, states []SessionState) (RestoreResult, error) {
	return e.RestoreEach(ctx, slices.Values(states))
}

// RestoreEach is RestoreSessionState for more sessions than should be in memory at once. What states yields is kept
// until it is stored, some thousand sessions later, and must not change.
func (e *Engine) RestoreEach(ctx context.Context, states iter.Seq[SessionState]) (RestoreResult, error) {
	if e.o.Identify == nil {
		return RestoreResult{}, errNoIdentify
	}
	if err := e.enter(); err != nil {
		return RestoreResult{}, err
	}
	defer e.exit()
	// What is a duplicate, and what has ended, is for the journal to say, not for what this replica has folded of it.
	if err := e.o.Table.CatchUp(ctx); err != nil {
		return RestoreResult{}, fmt.Errorf("restore: %w", unreachable(err))
	}
	r := &restore{
		e: e, now: time.Now(), form: sessionIDForm(), seen: map[journal.Ref]struct{}{},
		full: map[journal.TenantID]bool{}, room: make(chan struct{}, restoreAhead),
	}
	for s := range states {
		if ctx.Err() != nil || r.failed() {
			break
		}
		r.add(ctx, &s)
	}
	r.flush(ctx)
	r.wg.Wait()
	return r.finish(ctx)
}

var errNoIdentify = errors.New("restore: the engine options lack Identify")

func (r *restore) finish(ctx context.Context) (RestoreResult, error) {
	r.tellAll()
	err := r.err
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if r.result.Restored > 0 && err == nil {
		err = r.e.note(ctx, journal.KindImported, r.result.Restored, "")
	}
	if err != nil {
		return r.result, fmt.Errorf("restore: %w", err)
	}
	return r.result, nil
}

// add judges one session and puts it into the chunk that is being filled.
func (r *restore) add(ctx context.Context, s *SessionState) {
	ref := s.SessionID.Ref()
	if why, err := r.judge(ref, s); why != nil {
		r.skip(ref, why, err)
		return
	}
	ic, id, err := r.identify(s)
	if err != nil {
		r.skip(ref, &r.result.Skipped.Invalid, err)
		return
	}
	if !r.reserve(ref, id.Tenant) {
		r.skip(ref, &r.result.Skipped.Limit, ErrSessionLimit)
		return
	}
	r.seen[ref] = struct{}{}
	r.chunk = append(r.chunk, draft{state: *s, context: ic, identity: id, ref: ref})
	if len(r.chunk) == restoreEvents {
		r.flush(ctx)
	}
}

// judge returns the counter of the reason for which s is to be skipped, or nil.
func (r *restore) judge(ref journal.Ref, s *SessionState) (why *int, err error) {
	sk := &r.result.Skipped
	if err := s.check(r.now, r.form); err != nil {
		return &sk.Invalid, err
	}
	if _, twice := r.seen[ref]; twice {
		return &sk.Duplicate, errPresent
	}
	if s.Metadata.LastAccess.Add(r.e.o.SessionTimeout).Compare(r.now) <= 0 {
		return &sk.Expired, errExpired
	}
	r.e.o.Table.View(func(st *replay.State) {
		if _, ok := st.Session(ref); ok {
			why, err = &sk.Duplicate, errPresent
		} else if st.Ended(ref) {
			why, err = &sk.Ended, errEnded
		}
	})
	return why, err
}

var (
	errPresent = errors.New("duplicate")
	errExpired = errors.New("expired")
	errEnded   = errors.New("ended before")
)

func (r *restore) identify(s *SessionState) (InstanceContext, Identity, error) {
	ic := s.Context
	if ic.InstanceID == s.SessionID.Reveal() { // what an export puts where there is none
		ic.InstanceID = ""
	}
	if err := r.e.o.ValidateContext(ic); err != nil {
		return ic, Identity{}, fmt.Errorf("invalid context: %w", err)
	}
	id, err := r.e.o.Identify(ic)
	if err != nil {
		return ic, id, fmt.Errorf("invalid context: %w", err)
	}
	return ic, id, nil
}

// reserve reports whether there is room. Once there is none, nobody looks again.
func (r *restore) reserve(ref journal.Ref, t journal.TenantID) bool {
	if r.allFull || r.full[t] {
		return false
	}
	err := r.e.limits.reserve(r.e.o.Table, ref, reserved{tenant: t})
	if err == nil {
		return true
	}
	if l, ok := errors.AsType[*limitError](err); ok {
		r.allFull, r.full[t] = l.all, true
		r.e.limitReached(l, t)
	}
	return false
}

func (r *restore) skip(ref journal.Ref, why *int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*why++
	r.tellSkipped(ref, err)
}

// draft is a session that was judged and has a place.
type draft struct {
	state    SessionState
	context  InstanceContext
	identity Identity
	ref      journal.Ref
}

func (e *Engine) imported(ctx context.Context, d *draft, now time.Time) (journal.Event, error) {
	id := &d.identity
	key, fp, err := e.o.Vault.Key(ctx, id.Tenant)
	if err != nil {
		return journal.Event{}, fmt.Errorf("tenant key: %w", unreachable(err))
	}
	at, meta := journal.InstantOf(now), &d.state.Metadata
	cr := &journal.Created{
		Source: journal.SourceImport, Tenant: id.Tenant, Label: id.Label, Key: key, Fingerprint: fp, URLHash: id.URLHash,
		Timeout:    e.o.SessionTimeout,
		CreatedAt:  min(journal.InstantOf(meta.CreatedAt), at),
		LastAccess: min(journal.InstantOf(meta.LastAccess), at),
	}
	if err := e.sealCreated(ctx, cr, d.state.SessionID, d.ref, &d.context); err != nil {
		return journal.Event{}, err
	}
	return journal.Event{Kind: journal.KindCreated, Ref: d.ref, At: at, Created: cr}, nil
}

// restore is one RestoreSessionState under way. Its loop runs in one goroutine; chunks are stored in others.
type restore struct {
	e       *Engine
	now     time.Time
	form    *regexp.Regexp
	seen    map[journal.Ref]struct{}
	full    map[journal.TenantID]bool
	allFull bool
	chunk   []draft
	room    chan struct{}
	wg      sync.WaitGroup

	mu     sync.Mutex
	result RestoreResult
	err    error
}

func (r *restore) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

func (r *restore) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}

// flush stores the chunk in the background, when there is room for one more.
func (r *restore) flush(ctx context.Context) {
	chunk := r.chunk
	r.chunk = nil
	if len(chunk) == 0 {
		return
	}
	r.room <- struct{}{}
	r.wg.Go(func() {
		defer func() { <-r.room }()
		r.store(ctx, chunk)
	})
}
