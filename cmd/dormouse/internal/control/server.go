package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

const (
	omittedHeader = "Dormouse-Omitted"
	beginsHeader  = "Dormouse-Begins" // SEQUENCE MILLISECONDS, of a history whose beginning was trimmed
)

// Backend is what the API tells of: a running daemon or a store that a command has opened. All functions are
// safe for concurrent use.
type Backend struct {
	// Status says how it is. It is asked at any time.
	Status func() Status
	// Ready, once it gives true, says that the functions below may be called.
	Ready func() bool

	View    func(func(*replay.State))
	History func(context.Context, audit.Query, func(audit.Entry) error) error
	// Begins returns the first message of a history whose beginning was trimmed, and when it was stored; zero: it is whole.
	// nil: that is not known.
	Begins func(context.Context) (journal.Seq, journal.Instant, error)
	Verify func(ctx context.Context, headersOnly bool, progress func(audit.VerifyProgress)) (*audit.Report, error)
	Close  func(context.Context, journal.Ref) error
	Live   func() map[journal.Ref]bool // the sessions with a runtime here; nil: none
	Past
	Transfer

	// Keyring and tenants. They may fail with a *RefusedError.
	Keys        func(ctx context.Context, count bool) (Keys, error)
	ReadingKeys func() []byte
	Rotate      func(context.Context, RotateQuery) (Rotated, error)
	RetireKeys  func(ctx context.Context, who string) (Rotated, error)
	Tenants     func(context.Context) ([]Tenant, error)
	EraseTenant func(ctx context.Context, t journal.TenantID, who string) (Erased, error)
}

// RefusedError is an error that comes with the operator's next step. Nothing was changed.
type RefusedError struct {
	Err  error
	Hint string
}

func (r *RefusedError) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *RefusedError) Unwrap() error { return r.Err }

// problem is an answer that is no success.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

// Handler serves the API. See the package comment.
func Handler(b *Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, b.Status()) })
	mux.HandleFunc("GET /v1/sessions", b.when(b.list))
	mux.HandleFunc("GET /v1/sessions/{ref}", b.when(b.show))
	mux.HandleFunc("POST /v1/sessions/{ref}/close", b.when(b.close))
	mux.HandleFunc("GET /v1/log", b.when(b.log))
	mux.HandleFunc("GET /v1/verify", b.when(b.verify))
	mux.HandleFunc("GET /v1/digest", b.when(b.digest))
	mux.HandleFunc("GET /v1/keys", b.when(b.keys))
	mux.HandleFunc("GET /v1/keys/reading", b.when(b.reading))
	mux.HandleFunc("POST /v1/keys/rotate", b.when(b.rotate))
	mux.HandleFunc("POST /v1/keys/retire", b.when(b.retire))
	mux.HandleFunc("GET /v1/tenants", b.when(b.tenants))
	mux.HandleFunc("GET /v1/tenants/{tenant}", b.when(b.tenant))
	mux.HandleFunc("POST /v1/tenants/{tenant}/erase", b.when(b.erase))
	b.past(mux)
	b.transfer(mux)
	return mux
}

// when answers 503 until the backend is ready, and turns an error into an answer.
func (b *Backend) when(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		if b.Ready() {
			err = serve(w, r)
		} else {
			s := b.Status()
			err = &problem{http.StatusServiceUnavailable, fmt.Sprintf("the daemon is %s (folded %d of %d); try again in a moment", s.State, s.Folded, s.Target)}
		}
		if err == nil {
			return
		}
		status, said := http.StatusInternalServerError, map[string]string{"error": err.Error()}
		if p, ok := errors.AsType[*problem](err); ok {
			status = p.status
		} else if r, ok := errors.AsType[*RefusedError](err); ok {
			status, said["hint"] = http.StatusForbidden, r.Hint
		}
		writeJSON(w, status, said)
	}
}

// List returns all sessions, the last accessed first. It is what GET /internal/sessions answers as well.
func (b *Backend) List() []Session {
	now := journal.InstantOf(time.Now())
	sessions, live := []Session{}, b.live()
	b.View(func(st *replay.State) {
		sessions = slices.Grow(sessions, st.Len())
		for s := range st.All() {
			sessions = append(sessions, sessionOf(&s, live[s.Ref], now))
		}
	})
	slices.SortStableFunc(sessions, func(x, y Session) int { return y.LastAccess.Compare(x.LastAccess) })
	return sessions
}

func (b *Backend) live() map[journal.Ref]bool {
	if b.Live == nil {
		return nil
	}
	return b.Live()
}

func (b *Backend) list(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, b.List())
	return nil
}

func (b *Backend) show(w http.ResponseWriter, r *http.Request) error {
	n, err := strconv.Atoi(r.FormValue("events"))
	if err != nil || n < 0 {
		n = 10
	}
	ref, err := b.resolve(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	now, live := journal.InstantOf(time.Now()), b.live()
	d := Detail{Session: Session{Ref: ref.String(), State: StateEnded}}
	b.View(func(st *replay.State) {
		if s, ok := st.Session(ref); ok {
			d = detailOf(&s, live[ref], now)
		}
	})
	if d.Events, err = b.lastEvents(r.Context(), ref, n); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, d)
	return nil
}

// lastEvents returns a session's newest n events. One that its tenant's erasure ended has that event as its last.
func (b *Backend) lastEvents(ctx context.Context, ref journal.Ref, n int) ([]Event, error) {
	last := newTail[Event](max(n, 1))
	var created *journal.Created
	over := false
	err := b.History(ctx, audit.Query{Session: &ref, Tolerant: true}, func(en audit.Entry) error {
		if c := en.Event.Created; c != nil {
			created = c
		}
		over = over || en.Event.Kind == journal.KindClosed || en.Event.Kind == journal.KindExpired
		last.add(EventOf(&en))
		return nil
	})
	ended := false
	b.View(func(st *replay.State) { ended = st.Ended(ref) })
	if err == nil && ended && !over && created != nil {
		err = b.History(ctx, audit.Query{Kinds: []journal.Kind{journal.KindTenantErased}}, func(en audit.Entry) error {
			if x := en.Event.Note; x != nil && x.Tenant == created.Tenant && slices.Contains(x.Keys, created.Key) {
				last.add(EventOf(&en))
			}
			return nil
		})
	}
	if n == 0 {
		return []Event{}, err
	}
	return last.items(), err
}

func (b *Backend) close(w http.ResponseWriter, r *http.Request) error {
	ref, err := b.resolve(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	err = b.Close(r.Context(), ref)
	if errors.Is(err, engine.ErrUnknownSession) {
		return &problem{http.StatusConflict, fmt.Sprintf("session %s has ended already", ref)}
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"ref": ref.String()})
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client is gone if this fails; nobody is left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
