package engine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// importing gives the engine what RestoreSessionState needs; it names tenants as alice and bob name them.
func importing(o *engine.Options) {
	o.ValidateContext = func(ic engine.InstanceContext) error {
		if !strings.HasPrefix(ic.N8nAPIURL, "https://") {
			return errors.New("bad URL")
		}
		return nil
	}
	o.Identify = func(ic engine.InstanceContext) (engine.Identity, error) {
		n := map[string]byte{"https://one.example": 1, "https://two.example": 2}[ic.N8nAPIURL]
		return engine.Identity{Tenant: journal.TenantID{n}, Label: ic.InstanceID, URLHash: journal.URLHash{n}}, nil
	}
}

func state(id string, age time.Duration) engine.SessionState {
	at := time.Now().Add(-age)
	return engine.SessionState{
		SessionID: journal.SessionID(id),
		Metadata:  engine.SessionMetadata{CreatedAt: at.Add(-time.Minute), LastAccess: at},
		Context:   *alice().Context,
	}
}

func restore(t *testing.T, h *house, states []engine.SessionState) engine.RestoreResult {
	t.Helper()
	got, err := h.RestoreSessionState(t.Context(), states)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestExportIsTheSeedsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a")
		c := alice()
		c.Context.Metadata = json.RawMessage(`{"userId":"<user>"}`)
		id := h.create(c, nil)
		time.Sleep(time.Minute)
		l := h.acquire(id, c)
		l.Begin("tools/list", "").End(journal.OutcomeOK)
		l.Release()
		h.create(engine.Caller{}, nil) // without a context: left out
		states, err := h.ExportSessionState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := engine.EncodeSessionStates(&b, states); err != nil {
			t.Fatal(err)
		}
		want := `[{"sessionId":"` + id.Reveal() + `","metadata":{"createdAt":"2000-01-01T00:00:00.000Z","lastAccess":"2000-01-01T00:01:00.000Z"},` +
			`"context":{"n8nApiUrl":"https://one.example","n8nApiKey":"key-one","instanceId":"tenant-1","metadata":{"userId":"<user>"}}}]`
		if b.String() != want {
			t.Errorf("got  %s\nwant %s", &b, want)
		}
		if !strings.Contains(h.log.String(), `"count":1,"message":"[SECURITY] session_export"`) {
			t.Errorf("log: %s", h.log)
		}
		if n := h.pen.events(journal.KindExported); len(n) != 1 || n[0].Note.Count != 1 {
			t.Errorf("journaled: %+v", n)
		}
	})
}

func TestRestoredSessionsAnswerTheirOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := newHouse(t, newLedger(), "a")
		id := from.create(alice(), nil)
		c := bob()
		c.Context.InstanceID = ""
		anonymous := from.create(c, nil)
		states, err := from.ExportSessionState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		h := newHouse(t, newLedger(), "b", importing)
		if got := restore(t, h, states); got != (engine.RestoreResult{Restored: 2}) {
			t.Fatalf("restored %+v", got)
		}
		if got := restore(t, h, states); got != (engine.RestoreResult{Skipped: engine.Skipped{Duplicate: 2}}) {
			t.Errorf("restored twice: %+v", got)
		}
		h.unknown(id, bob())
		partial := alice()
		partial.Context = nil
		h.unknown(id, partial)
		thief := alice()
		thief.Context.N8nAPIKey = "guessed"
		h.unknown(id, thief)
		l := h.acquire(id, alice())
		if st, _ := l.Session().State(); st.Principal != "token:alice" || st.Source != journal.SourceImport {
			t.Errorf("state %+v", st)
		}
		if _, err := l.Runtime(t.Context()); err != nil {
			t.Error(err)
		}
		l.Release()
		other := alice()
		other.Principal = "token:mallory"
		h.unknown(id, other)
		h.acquire(anonymous, c).Release()
	})
}

func TestRestoreCountsByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		h := newHouse(t, newLedger(), "a", importing, func(o *engine.Options) { o.MaxSessions = 3 })
		ended := h.create(alice(), nil)
		if err := h.Close(t.Context(), ended.Ref(), journal.ReasonAdmin); err != nil {
			t.Fatal(err)
		}
		bad := func(change func(*engine.SessionState)) engine.SessionState {
			s := state("bad-session-0000000", 0)
			change(&s)
			return s
		}
		got := restore(t, h, []engine.SessionState{
			state("good-session-000001", time.Minute),
			state("instance-tenant:1-abcd-0b6f6c2e-9a1a-4a80-9f31-6f0c2b1b9a11", 0),
			state("good-session-000001", time.Minute),
			state("old-session-0000001", 30*time.Minute),
			state(ended.Reveal(), time.Minute),
			{},
			bad(func(s *engine.SessionState) { s.SessionID = "../../etc/passwd" }),
			bad(func(s *engine.SessionState) { s.SessionID = journal.SessionID(strings.Repeat("a", 10_000)) }),
			bad(func(s *engine.SessionState) { s.Metadata.LastAccess = time.Now().AddDate(10, 0, 0) }),
			bad(func(s *engine.SessionState) { s.Metadata.CreatedAt = time.Now().Add(time.Second) }),
			bad(func(s *engine.SessionState) { s.Metadata = engine.SessionMetadata{} }),
			bad(func(s *engine.SessionState) { s.Context.N8nAPIKey = "" }),
			bad(func(s *engine.SessionState) { s.Context.N8nAPIURL = "http://a_b.local" }),
			bad(func(s *engine.SessionState) { s.Context.Metadata = json.RawMessage("{") }),
			state("good-session-000002", 0),
			state("good-session-000003", 0),
			state("good-session-000004", 0),
		})
		want := engine.RestoreResult{Restored: 3, Skipped: engine.Skipped{Expired: 1, Duplicate: 1, Ended: 1, Invalid: 9, Limit: 2}}
		if got != want || got.Skipped.Total() != 14 {
			t.Errorf("got %+v, want %+v", got, want)
		}
		log := h.log.String()
		for line, n := range map[string]int{"session_restore": 3, "session_restore_failed": 14, "session_restore_summary": 1, "max_sessions_reached": 1} {
			if c := strings.Count(log, "[SECURITY] "+line+`"`); c != n {
				t.Errorf("%d lines %s, want %d", c, line, n)
			}
		}
		if strings.Contains(log, "good-session") || strings.Contains(log, "key-one") {
			t.Error("a secret is in the log")
		}
	})
}

func TestRestoreManyInOneCountWithCreate(t *testing.T) {
	const n = 3000
	h := newHouse(t, newLedger(), "a", importing, func(o *engine.Options) { o.MaxSessions = n })
	states := make([]engine.SessionState, n)
	for i := range states {
		states[i] = state(fmt.Sprintf("session-%012d", i), 0)
	}
	h.create(alice(), nil)
	got := restore(t, h, states)
	if got.Restored != n-1 || got.Skipped.Limit != 1 || h.SessionInfo().Sessions != n {
		t.Errorf("%+v", got)
	}
	for line, want := range map[string]int{`"level":"warn".*SECURITY. session_restore"`: 100, `SECURITY. session_restore_summary"`: 1, `"count":2999,"skipped":1,.*"limit":1,"untold":2899`: 1} {
		if c := len(regexp.MustCompile(line).FindAllString(h.log.String(), -1)); c != want {
			t.Errorf("%d lines %s, want %d", c, line, want)
		}
	}
	_, err := h.Create(t.Context(), alice(), open(nil))
	wantErr(t, err, engine.ErrSessionLimit)
	if k := h.pen.events(journal.KindImported); len(k) != 1 || k[0].Note.Count != n-1 {
		t.Errorf("journaled %+v", k)
	}
}

func TestRestoreWithTheStreamOutOfReach(t *testing.T) {
	l := newLedger()
	h := newHouse(t, l, "a", importing, func(o *engine.Options) { o.MaxSessions = 2 })
	l.down.Store(true)
	states := []engine.SessionState{state("session-0000000001", 0), state("session-0000000002", 0)}
	got, err := h.RestoreSessionState(t.Context(), states)
	wantErr(t, err, journal.ErrUnavailable)
	if got.Restored != 0 {
		t.Errorf("%+v", got)
	}
	l.down.Store(false)
	if got := restore(t, h, states); got.Restored != 2 {
		t.Errorf("again: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.RestoreSessionState(ctx, states)
	wantErr(t, err, context.Canceled)
	if got, err := h.RestoreSessionState(t.Context(), nil); err != nil || got != (engine.RestoreResult{}) {
		t.Errorf("nil: %+v, %v", got, err)
	}
}

func TestDecodeSessionStates(t *testing.T) {
	junk := `[null, 5, {}, "x", [], {"sessionId":5}, {"sessionId":"s","metadata":{"createdAt":1,"lastAccess":2}}, {"context":{"n8nApiUrl":{}}}]`
	states, err := engine.DecodeSessionStates(strings.NewReader(junk), 1<<20)
	if err != nil || len(states) != 8 {
		t.Fatalf("%d, %v", len(states), err)
	}
	h := newHouse(t, newLedger(), "a", importing)
	if got := restore(t, h, states); got.Skipped.Invalid != 8 {
		t.Errorf("%+v", got)
	}
	if states, err := engine.DecodeSessionStates(strings.NewReader(` {"exported":8,"sessions":`+junk+"}"), 1<<20); err != nil || len(states) != 8 {
		t.Errorf("an export's answer: %d, %v", len(states), err)
	}
	for _, bad := range []string{"", "null", "{}", "5", `"x"`, "[", "[{]", "[] []", `{"sessions":[]}`, `{"exported":1,"sessions":[]}[]`} {
		if _, err := engine.DecodeSessionStates(strings.NewReader(bad), 1<<20); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	_, err = engine.DecodeSessionStates(strings.NewReader("[     ]"), 3)
	wantErr(t, err, journal.ErrTooLarge)
	if got, err := engine.DecodeSessionStates(strings.NewReader("[]"), 2); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzDecodeSessionStates(f *testing.F) {
	f.Add([]byte(`[{"sessionId":"good-session-000001","metadata":{"createdAt":"2025-11-24T10:30:00.000Z","lastAccess":"2025-11-24T17:15:32.000Z"},"context":{"n8nApiUrl":"https://one.example","n8nApiKey":"k"}}]`))
	f.Add([]byte(`[null]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		states, err := engine.DecodeSessionStates(bytes.NewReader(data), 1<<20)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := engine.EncodeSessionStates(&b, states); err != nil {
			t.Skip() // a time that ISO 8601 cannot write
		}
		again, err := engine.DecodeSessionStates(&b, 1<<24)
		if err != nil || len(again) != len(states) {
			t.Errorf("%d states became %d: %v", len(states), len(again), err)
		}
	})
}

func TestTextForm(t *testing.T) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	text, err := engine.EncryptText([]byte(`[]`), key)
	if err != nil || strings.Count(text, ":") != 2 {
		t.Fatalf("%q, %v", text, err)
	}
	plain, err := engine.DecryptText(text+"\n", key)
	if err != nil || string(plain) != `[]` {
		t.Errorf("%q, %v", plain, err)
	}
	key[0]++
	_, err = engine.DecryptText(text, key)
	wantErr(t, err, journal.ErrWrongKey)
	for _, bad := range []string{"", "a:b", "a:b:c", "::", text + ":", "AAAA:AAAA:AAAA"} {
		_, err = engine.DecryptText(bad, key)
		wantErr(t, err, journal.ErrMalformed)
	}
	_, err = engine.EncryptText(nil, key[:5])
	wantErr(t, err, journal.ErrMalformed)
}
