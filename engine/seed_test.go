package engine_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// seedKey is what testdata/seed/make.mjs encrypts with.
func seedKey() []byte {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	return key
}

func seedFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "seed", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestSeedFiles: what the guide's code made in Node is read here, and written again byte for byte.
func TestSeedFiles(t *testing.T) {
	text := seedFile(t, "sessions.enc")
	if !engine.IsEncryptedText(text) {
		t.Error("not recognized")
	}
	plain, err := engine.ReadEncrypted(iotest.OneByteReader(bytes.NewReader(append(text, '\n'))), seedKey())
	if err != nil || !bytes.Equal(plain, seedFile(t, "sessions.json")) {
		t.Fatalf("%v\n%s", err, plain)
	}
	states, err := engine.DecodeSessionStates(bytes.NewReader(plain), 1<<20)
	if err != nil || len(states) != 3 {
		t.Fatalf("%d states, %v", len(states), err)
	}
	var b bytes.Buffer
	if err := engine.EncodeSessionStates(&b, states); err != nil || !bytes.Equal(b.Bytes(), plain) {
		t.Errorf("%v\ngot  %s\nwant %s", err, &b, plain)
	}
	for i := range states {
		one, err := engine.EncodeSessionState(&states[i])
		if err != nil || !bytes.Contains(plain, one) {
			t.Errorf("%v: %s", err, one)
		}
	}
}

// TestSeedFileDamaged: no byte of an encrypted file can be lost or changed without a clear error.
func TestSeedFileDamaged(t *testing.T) {
	text := seedFile(t, "sessions.enc")
	for i := range text {
		damaged := bytes.Clone(text)
		damaged[i] ^= 1
		for _, bad := range [][]byte{damaged, text[:i]} {
			plain, err := engine.ReadEncrypted(bytes.NewReader(bad), seedKey())
			if plain != nil || !errors.Is(err, journal.ErrWrongKey) && !errors.Is(err, journal.ErrMalformed) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
}

func TestWriteEncrypted(t *testing.T) {
	for n := range 100 {
		var b strings.Builder
		plain := bytes.Repeat([]byte("x"), n)
		if err := engine.WriteEncrypted(&b, slices.Clone(plain), seedKey()); err != nil {
			t.Fatal(err)
		}
		got, err := engine.DecryptText(b.String(), seedKey())
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestEachSessionState(t *testing.T) {
	read := func(r io.Reader) (ids []string, malformed int, err error) {
		err = engine.EachSessionState(r, func(s engine.SessionState) error {
			ids = append(ids, s.SessionID.Reveal())
			if s.Malformed() {
				malformed++
			}
			return nil
		})
		return ids, malformed, err
	}
	file := seedFile(t, "sessions.json")
	ids, malformed, err := read(iotest.HalfReader(bytes.NewReader(append(file, " \n"...))))
	if err != nil || len(ids) != 3 || ids[0] != "550e8400-e29b-41d4-a716-446655440000" || malformed != 0 {
		t.Errorf("%v, %d malformed, %v", ids, malformed, err)
	}
	for i := range file {
		if _, _, err := read(bytes.NewReader(file[:i])); !errors.Is(err, journal.ErrMalformed) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if ids, malformed, err := read(strings.NewReader(`[null, 5, {"sessionId":5}, {}]`)); err != nil || len(ids) != 4 || malformed != 4 {
		t.Errorf("%q, %d malformed, %v", ids, malformed, err)
	}
	if ids, malformed, err := read(strings.NewReader(` {"exported": 1e999, "sessions": [{"sessionId":"a"}, null]} `)); err != nil || len(ids) != 2 || malformed != 1 {
		t.Errorf("an export's answer: %q, %d malformed, %v", ids, malformed, err)
	}
	for _, bad := range []string{
		"", "null", "{}", "5", `"x"`, "[", "[{]", "[] []", "[]x", "[1 2]",
		`{"sessions":[]}`, `{"exported":1}`, `{"exported":"1","sessions":[]}`, `{"exported":1,"sessions":{}}`, `{"exported":1,"sessions":null}`,
		`{"exported":1,"sessions":[]`, `{"exported":1,"sessions":[],"x":1}`, `{"exported":1,"sessions":[]}x`, `{"exported":1 "sessions":[]}`, `{"exported":[]}`,
	} {
		if _, _, err := read(strings.NewReader(bad)); !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, size := range []int{3 << 20, 1 << 20, 100_000} {
		many := "[" + strings.Repeat(`{"sessionId":"`+strings.Repeat("x", size)+`"},`, 9) + "{}]"
		if ids, malformed, err := read(strings.NewReader(many)); err != nil || len(ids) != 10 || malformed != 1 {
			t.Errorf("entries of %d bytes: %d, %d malformed, %v", size, len(ids), malformed, err)
		}
	}
	_, _, err = read(strings.NewReader(`["` + strings.Repeat("x", 9<<20) + `"]`))
	wantErr(t, err, journal.ErrTooLarge)
	broken := errors.New("broken")
	_, _, err = read(io.MultiReader(bytes.NewReader(file[:400]), iotest.ErrReader(broken)))
	wantErr(t, err, broken)
	wantErr(t, engine.EachSessionState(bytes.NewReader(file), func(engine.SessionState) error { return broken }), broken)
}

// TestImportedSessionOfATokensTenant: where the operator puts callers into tenants, an imported session, which can
// only be under the tenant of its context, still answers who presents all of that, and from then on them alone.
func TestImportedSessionOfATokensTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "b", importing)
		id := journal.SessionID("good-session-000001")
		if got := restore(t, h, []engine.SessionState{state(id.Reveal(), time.Minute)}); got.Restored != 1 {
			t.Fatalf("%+v", got)
		}
		placed := func(c engine.Caller) engine.Caller { // as the gateway does with a token's tenant
			c.ContextTenant, c.Tenant = c.Tenant, journal.TenantID{9}
			return c
		}
		bare := placed(alice())
		bare.Context = nil
		guess := placed(alice())
		guess.Context.N8nAPIKey = "guessed"
		for _, c := range []engine.Caller{placed(bob()), bare, guess} {
			h.unknown(id, c)
		}
		h.acquire(id, placed(alice())).Release()
		mallory := placed(alice()) // who has learned the credentials, and not the token
		mallory.Principal = "token:mallory"
		h.unknown(id, mallory)
		h.unknown(id, bare)
		h.acquire(id, placed(alice())).Release()

		// A session that was made here is its tenant's alone.
		own := h.create(placed(alice()), nil)
		h.unknown(own, alice())
		made := h.create(alice(), nil)
		h.unknown(made, placed(alice()))
	})
}

// FuzzEachSessionState: both readers take the same arrays, and find the same in them.
func FuzzEachSessionState(f *testing.F) {
	for _, s := range []string{"[]", "[null,5]", "[] []", `[{"sessionId":"a"}{}]`, `{"exported":1,"sessions":[null,{}]}`, `{"exported":1,"sessions":[}`, `[{"sessionId":"good-session-000001","metadata":{"createdAt":"2025-11-24T10:30:00.000Z","lastAccess":"2025-11-24T17:15:32.000Z"},"context":{"n8nApiUrl":"https://one.example","n8nApiKey":"k"}}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := engine.DecodeSessionStates(bytes.NewReader(data), 1<<20)
		var got []engine.SessionState
		err := engine.EachSessionState(bytes.NewReader(data), func(s engine.SessionState) error {
			got = append(got, s)
			return nil
		})
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, and %v in one piece", err, wantErr)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%d states, and %d in one piece", len(got), len(want))
		}
		for i := range got {
			if got[i].SessionID != want[i].SessionID || got[i].Malformed() != want[i].Malformed() {
				t.Errorf("state %d differs", i)
			}
		}
	})
}
