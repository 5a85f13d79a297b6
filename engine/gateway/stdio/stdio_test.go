package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

func TestMain(m *testing.M) {
	if mark := os.Getenv("DORMOUSE_TEST_GATEWAY"); mark != "" {
		beGateway(mark)
	}
	goleak.VerifyTestMain(m)
}

func request(t *testing.T) *http.Request {
	t.Helper()
	return (&http.Request{Method: http.MethodPost, Header: http.Header{}}).WithContext(t.Context())
}

func TestParseCommand(t *testing.T) {
	for line, want := range map[string][]string{
		`npx -y n8n-mcp`:                    {"npx", "-y", "n8n-mcp"},
		`'/opt/my server/run' --name="a b"`: {"/opt/my server/run", "--name=a b"},
		`sh -c "a | b; c" ''`:               {"sh", "-c", "a | b; c", ""},
		`echo $HOME ~ *`:                    {"echo", "$HOME", "~", "*"},
		`a\ b`:                              {"a b"},
	} {
		if got, err := ParseCommand(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v", line, got, err)
		}
	}
	for _, line := range []string{"", "  ", "a | b", "a; b", "a && b", "a > f", "a < f", `a "b`, `''`} {
		if got, err := ParseCommand(line); err == nil {
			t.Errorf("%q: %q", line, got)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no command":  {},
		"negative":    {Command: []string{"true"}, MaxChildren: -1},
		"environment": {Command: []string{"true"}, Env: []string{"=a"}},
		"not there":   {Command: []string{"no-such-program-anywhere"}},
	} {
		if _, err := New(o); err == nil {
			t.Error(name)
		}
	}
	u, err := New(Options{Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if u.Shared() {
		t.Error("children are shared")
	}
	if _, err := u.Connect(t.Context(), nil); err == nil {
		t.Error("a child for no session")
	}
}

func TestEnvironment(t *testing.T) {
	here := map[string]string{"PATH": "/bin", "HOME": "/root", "DORMOUSE_KEYS": "secret", "A": "1", "N8N_API_KEY": "operator's"}
	lookup := func(name string) (string, bool) { v, ok := here[name]; return v, ok }
	ref := journal.SessionID("s").Ref()
	got := environment(lookup, []string{"A", "B=2=3", "GONE", "N8N_API_URL=http://default"}, ref, engine.InstanceContext{
		N8nAPIURL: "http://tenant", N8nAPIKey: "k", SessionID: "x", InstanceID: "with\x00nul",
		Extra: map[string]json.RawMessage{
			"n8nApiTimeout": []byte("45e3"), "n8nApiMaxRetries": []byte("0"), "n8nMcpAccessToken": []byte(`"t"`), "PATH": []byte(`"/tmp"`),
		},
	})
	want := []string{
		"A=1", "B=2=3", "DORMOUSE_CONTEXT_SESSION_ID=x", "DORMOUSE_SESSION=" + ref.String(), "HOME=/root",
		"N8N_API_KEY=k", "N8N_API_TIMEOUT=45000", "N8N_API_URL=http://tenant", "N8N_MCP_ACCESS_TOKEN=t", "PATH=/bin",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What a child says on its stderr is bounded in every direction, and the tenant's key is not in it.
func TestStderr(t *testing.T) {
	var log bytes.Buffer
	w := newLastWords(zerolog.New(&log), []string{"topsecret", ""})
	long := strings.Repeat("y", 3*maxStderrLine)
	var in strings.Builder
	in.WriteString("key topsecret here\n\n" + long + "\nbad \xff\xfe bytes\r\n")
	for i := range 10_000 {
		in.WriteString("line " + strconv.Itoa(i) + "\n")
	}
	in.WriteString("the end")
	w.read(strings.NewReader(in.String()))
	said := log.String()
	for _, want := range []string{"key [hidden] here", "bad ", "lines dropped"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not there", want)
		}
	}
	if n := strings.Count(said, "\n"); n > 2*linesAtOnce || strings.Contains(said, "topsecret") {
		t.Errorf("%d lines", n)
	}
	for line := range strings.Lines(said) {
		if len(line) > maxStderrLine+200 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if last := w.last(); len(last) != keptLines || last[keptLines-1] != "the end" {
		t.Errorf("%q", last)
	}
}

func TestKeys(t *testing.T) {
	for _, same := range [][2]string{{`1`, `1.0`}, {`1`, `1e0`}, {`"é"`, `"\u00e9"`}, {`-5`, `-5`}, {`9007199254740992`, `9007199254740992`}} {
		if key(json.RawMessage(same[0])) != key(json.RawMessage(same[1])) {
			t.Error(same)
		}
	}
	for _, other := range [][2]string{{`1`, `"1"`}, {`1`, `2`}, {`1.5`, `1`}, {`"a"`, `"b"`}, {`null`, ``}} {
		if key(json.RawMessage(other[0])) == key(json.RawMessage(other[1])) {
			t.Error(other)
		}
	}
}

// FuzzParse: whatever a child or a client says, a message is one line, and the same message again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progressToken":"x"},"uri":1}}`,
		`[{"id":"a","result":{}},{"method":"b"}]`, `{"id":null,"error":{}}`, `{}`, `[]`, "{\"id\":1,\n\r\"result\":1}", `{"method":7}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msgs, err := parse(data)
		if err != nil {
			return
		}
		for i := range msgs {
			line := msgs[i].line()
			if bytes.Count(line, []byte{'\n'}) != 1 || line[len(line)-1] != '\n' {
				t.Fatalf("not one line: %q", line)
			}
			again, err := parse(line)
			if err != nil || len(again) != 1 || key(again[0].ID) != key(msgs[i].ID) || again[0].Method != msgs[i].Method {
				t.Fatalf("%q became %q: %v", msgs[i].raw, line, err)
			}
		}
	})
}

// A stream whose reader is too far behind is cut, so that one slow client costs no memory and no other's answers.
func TestSlowReader(t *testing.T) {
	s := newStream(1)
	piece := []byte(`{"method":"` + strings.Repeat("x", 1<<20) + `"}`)
	n := 0
	for s.send(piece) {
		n++
	}
	if n < 8 || n > 10 {
		t.Errorf("cut after %d MiB", n)
	}
	s.respond([]byte(`{"id":1}`))
	if _, err := io.ReadAll(s); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// A single response is JSON; whatever comes before makes it a stream of events.
func TestAnswers(t *testing.T) {
	r := request(t)
	one := newStream(1)
	one.respond([]byte("{\"id\":1}\n"))
	resp, err := one.head(r)
	if err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatal(resp, err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != `{"id":1}` {
		t.Errorf("%q %v", body, err)
	}
	_ = resp.Body.Close()
	more := newStream(1)
	more.send([]byte(`{"method":"a"}`))
	more.respond([]byte(`{"id":1}`))
	if resp, err = more.head(r); err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(resp, err)
	}
	want := "event: message\ndata: {\"method\":\"a\"}\n\nevent: message\ndata: {\"id\":1}\n\n"
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != want {
		t.Errorf("%q %v", body, err)
	}
	_ = resp.Body.Close()
	dead := newStream(1)
	dead.fail(errStopped)
	if _, err = dead.head(r); !errors.Is(err, errStopped) { //nolint:bodyclose // there is none
		t.Error(err)
	}
}

// What nobody listens to waits, but not without bounds, and the newest is kept.
func TestBacklog(t *testing.T) {
	var b backlog
	dropped := 0
	for i := range 2 * maxBacklog {
		dropped += b.add(&message{raw: []byte(strconv.Itoa(i))})
	}
	if dropped != maxBacklog || len(b.msgs) != maxBacklog || string(b.msgs[0]) != strconv.Itoa(maxBacklog) {
		t.Errorf("%d dropped, %d kept", dropped, len(b.msgs))
	}
	if n := b.add(&message{raw: make([]byte, maxBacklogBytes)}); n != maxBacklog || len(b.msgs) != 1 {
		t.Errorf("%d dropped, %d kept", n, len(b.msgs))
	}
	s := newStream(-1)
	b.flush(s)
	if len(b.msgs) != 0 || b.bytes != 0 {
		t.Error(b.bytes)
	}
	_ = s.Close()
	b.add(&message{raw: []byte("a")})
	if b.flush(s); len(b.msgs) != 1 {
		t.Error("lost to a stream that nobody reads")
	}
}

// A session whose child dies again and again is served ever more rarely, and forgotten when that is over.
func TestTrouble(t *testing.T) {
	u, err := New(Options{Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	ref := journal.SessionID("s").Ref()
	u.mark(ref)
	if err := u.barred(ref); err != nil {
		t.Error("the first death is free:", err)
	}
	for range 20 {
		u.mark(ref)
	}
	if u.barred(ref) == nil || u.barred(journal.SessionID("other").Ref()) != nil {
		t.Error("only who is in trouble is barred")
	}
	for i := range maxTroubled + 10 {
		u.mark(journal.SessionID(strconv.Itoa(i)).Ref())
	}
	if n := len(u.trouble); n > maxTroubled {
		t.Errorf("%d are remembered", n)
	}
}
