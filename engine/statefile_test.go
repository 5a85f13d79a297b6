package engine_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

var fileKey = bytes.Repeat([]byte{7}, 32)

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func writeStates(t fataler, states []engine.SessionState) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := engine.NewStateWriter(&b, fileKey)
	for i := range states {
		err = errors.Join(err, w.Write(&states[i]))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatalf("%v", err)
	}
	return b.Bytes()
}

func readStates(file, key []byte) (out []engine.SessionState, err error) {
	err = engine.EachStateInFile(bytes.NewReader(file), key, func(s *engine.SessionState) error {
		out = append(out, *s)
		return nil
	})
	return out, err
}

func drawState(t *rapid.T) (s engine.SessionState) {
	s.SessionID = journal.SessionID(rapid.OneOf(rapid.Just(journal.NewSessionID().Reveal()), rapid.StringN(1, 40, 200)).Draw(t, "id"))
	ic := &s.Context
	ic.N8nAPIURL, ic.N8nAPIKey = rapid.String().Draw(t, "url"), rapid.String().Draw(t, "key")
	some := func(label string) string {
		return rapid.OneOf(rapid.Just(""), rapid.Just(s.SessionID.Reveal()), rapid.String()).Draw(t, label)
	}
	ic.InstanceID, ic.SessionID = some("instance"), some("session")
	if rapid.Bool().Draw(t, "metadata") {
		ic.Metadata = json.RawMessage(`{"user":"<x>"}`)
	}
	if rapid.Bool().Draw(t, "extra") {
		ic.Extra = rapid.MapOfN(extraName(), extraValue(), 1, 4).Draw(t, "fields")
	}
	at := journal.Instant(rapid.Int64Range(1, 200e12).Draw(t, "created"))
	s.Metadata.CreatedAt, s.Metadata.LastAccess = at.Time(), at.Add(time.Duration(rapid.IntRange(0, 1e9).Draw(t, "access"))).Time()
	return s
}

// Whatever sessions are written, the same are read, and the JSON of them is the same.
func TestStateFileGivesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := rapid.SliceOfN(rapid.Custom(drawState), 0, 20).Draw(t, "states")
		file := writeStates(t, states)
		got, err := readStates(file, fileKey)
		if err != nil || len(got) != len(states) {
			t.Fatalf("%d sessions of %d, %v", len(got), len(states), err)
		}
		var want bytes.Buffer
		if err := engine.EncodeSessionStates(&want, states); err != nil {
			t.Fatalf("%v", err)
		}
		r := engine.StatesAsJSON(bytes.NewReader(file), fileKey)
		text, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(text, want.Bytes()) {
			t.Fatalf("%s, %v\nwant %s", text, err, &want)
		}
	})
}

func someStates(n int) []engine.SessionState {
	states := make([]engine.SessionState, n)
	for i := range states {
		states[i] = state(journal.NewSessionID().Reveal(), time.Duration(i)*time.Millisecond)
		states[i].Context = fullContext()
	}
	return states
}

// fullContext is a context whose JSON has 200 bytes, all of which that can be are random.
func fullContext() engine.InstanceContext {
	ic := engine.InstanceContext{N8nAPIURL: "https://n8n.example.com", InstanceID: "acme-production"}
	text, _ := json.Marshal(ic)
	noise := make([]byte, 200)
	_, _ = rand.Read(noise) // never fails
	ic.N8nAPIKey = base64.RawURLEncoding.EncodeToString(noise)[:200-len(text)-len(`"n8nApiKey":"",`)]
	return ic
}

func TestStateFileIsSmall(t *testing.T) {
	const n = 20_000
	states := someStates(n)
	if text, err := json.Marshal(states[0].Context); err != nil || len(text) != 200 {
		t.Fatalf("a context of %d bytes, %v", len(text), err)
	}
	file := writeStates(t, states)
	t.Logf("%d bytes a session", len(file)/n)
	if len(file) > 240*n {
		t.Errorf("%d bytes a session", len(file)/n)
	}
	if got, err := readStates(file, fileKey); err != nil || !slices.EqualFunc(got, states, sameState) {
		t.Errorf("%d sessions of %d, %v", len(got), n, err)
	}
}

func sameState(a, b engine.SessionState) bool {
	x, err1 := engine.EncodeSessionState(&a)
	y, err2 := engine.EncodeSessionState(&b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// A file that is cut off anywhere, changed anywhere, goes on behind its end or is under another key is refused.
func TestStateFileIsWholeOrRefused(t *testing.T) {
	file := writeStates(t, someStates(3))
	refused := func(what string, file, key []byte) {
		t.Helper()
		got, err := readStates(file, key)
		if !errors.Is(err, journal.ErrMalformed) && !errors.Is(err, journal.ErrWrongKey) {
			t.Errorf("%s: %d sessions, %v", what, len(got), err)
		}
	}
	for i := range file {
		refused(fmt.Sprintf("cut off at %d", i), file[:i], fileKey)
		other := bytes.Clone(file)
		other[i] ^= 1
		refused(fmt.Sprintf("changed at %d", i), other, fileKey)
	}
	refused("longer", append(bytes.Clone(file), 0), fileKey)
	refused("under another key", file, bytes.Repeat([]byte{8}, 32))
	refused("under a short key", file, []byte("short"))
	long := writeStates(t, someStates(20_000))
	head, frame := 19+16, 4+int(long[35])<<24+int(long[36])<<16+int(long[37])<<8+int(long[38])
	refused("without its first frame", append(bytes.Clone(long[:head]), long[head+frame:]...), fileKey)
	refused("without its last frame", long[:head+frame], fileKey)
}

// FuzzStateFile reads anything as a file's columns would be, and as a file.
func FuzzStateFile(f *testing.F) {
	columns, uuids := engine.StateColumns(someStates(3))
	f.Add(columns, uuids)
	f.Add(writeStates(f, someStates(1)), []byte{})
	some := someStates(2)
	some[1].Context.Extra = map[string]json.RawMessage{"n8nApiTimeout": json.RawMessage("45000")}
	columns, uuids = engine.StateColumns(some)
	f.Add(columns, uuids)
	f.Fuzz(func(t *testing.T, columns, uuids []byte) {
		_, _ = readStates(columns, fileKey)
		for _, s := range engine.ReadStateColumns(columns, uuids) {
			if _, err := engine.EncodeSessionState(&s); err != nil {
				t.Errorf("a session that has no JSON: %v", err)
			}
		}
	})
}
