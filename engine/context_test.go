package engine_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// extraName draws names that are none of a context's own.
func extraName() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"n8nApiTimeout", "n8nApiMaxRetries", "n8nMcpAccessToken", "", "<&>"}), rapid.String()).
		Filter(func(name string) bool {
			var ic engine.InstanceContext
			text, _ := json.Marshal(map[string]int{name: 1})
			return json.Unmarshal(text, &ic) == nil && len(ic.Extra) == 1
		})
}

func extraValue() *rapid.Generator[json.RawMessage] {
	return rapid.Map(rapid.SampledFrom([]string{"45000", "1e3", "0.10", "null", `"<&>\u2028"`, `{"b":1,"a":[true]}`, "12345678901234567890"}),
		func(s string) json.RawMessage { return json.RawMessage(s) })
}

// Whatever a context has beside its own fields comes back as it was, and neither takes the place of the other.
func TestContextKeepsExtraFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ic := drawState(t).Context
		text, err := json.Marshal(ic)
		if err != nil {
			t.Fatal(err)
		}
		var got engine.InstanceContext
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		// json.Marshal escapes for HTML; EncodeSessionState, which exports, does not.
		again, err := json.Marshal(got)
		if err != nil || !bytes.Equal(again, text) || len(got.Extra) != len(ic.Extra) {
			t.Fatalf("%s, %v; want %s", again, err, text)
		}
	})
}

func TestContextForms(t *testing.T) {
	t.Parallel()
	own := `"n8nApiUrl":"https://one.example","n8nApiKey":"k"`
	for in, want := range map[string]string{
		`{` + own + `}`: `{` + own + `}`,
		`{"n8nApiTimeout": 45e3,` + own + `,"a":{ "b": 1.0 }}`: `{` + own + `,"a":{"b":1.0},"n8nApiTimeout":45e3}`,
		`{"n8nApiMaxRetries":0}`:                               `{"n8nApiMaxRetries":0}`,
		`{` + own + `,"N8NAPIKEY":"j","x":null}`:               `{"n8nApiUrl":"https://one.example","n8nApiKey":"j","x":null}`,
		`{` + own + `,"x":1,"x":2}`:                            `{` + own + `,"x":2}`,
		`null`:                                                 `{}`,
		`{"n8nApiKey":7,"x":1}`:                                "",
		`["n8nApiKey"]`:                                        "",
	} {
		var ic engine.InstanceContext
		err := json.Unmarshal([]byte(in), &ic)
		if (err != nil) != (want == "") {
			t.Errorf("%s: %v", in, err)
		}
		if got, _ := json.Marshal(ic); err == nil && string(got) != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for name, value := range map[string]string{"n8nApiUrl": `"http://inside"`, "N8NAPIKEY": `"k"`, "x": "{", "y": ""} {
		ic := engine.InstanceContext{Extra: map[string]json.RawMessage{name: json.RawMessage(value)}}
		if text, err := json.Marshal(ic); err == nil {
			t.Errorf("%s: %s has the JSON %s", name, value, text)
		}
		if text := fmt.Sprintf("%v %+v %#v", ic, ic, ic); strings.ReplaceAll(text, "instance context", "") != "  " {
			t.Errorf("it is shown: %s", text)
		}
	}
}

// What n8n-mcp's export has in a context beside Dormouse's own fields outlives the import, a restart of the table and a
// change of the API key, and is exported again as it was.
func TestExtraFieldsOutliveTheirKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, newLedger(), "a", importing)
		extra := map[string]json.RawMessage{
			"n8nApiTimeout": json.RawMessage("45000"), "n8nApiMaxRetries": json.RawMessage("5"), "later": json.RawMessage(`{"<a>":1.0}`),
		}
		s := state(journal.NewSessionID().Reveal(), 0)
		s.Context.Extra, s.Context.Metadata = extra, json.RawMessage(`{"user":1}`)
		bad := state(journal.NewSessionID().Reveal(), 0)
		bad.Context.Extra = map[string]json.RawMessage{"N8nApiKey": json.RawMessage(`"other"`)}
		got := restore(t, h, []engine.SessionState{s, bad})
		if want := (engine.RestoreResult{Restored: 1, Skipped: engine.Skipped{Invalid: 1}}); got != want {
			t.Fatalf("%+v", got)
		}
		h.acquire(s.SessionID, alice()).Release()
		rotated := alice()
		rotated.Context.N8nAPIKey = "key-new"
		l := h.acquire(s.SessionID, rotated)
		defer l.Release()
		if ic, err := l.Session().Context(t.Context()); err != nil || ic.N8nAPIKey != "key-new" || !reflect.DeepEqual(ic.Extra, extra) {
			t.Errorf("after its key was rotated: %d fields, %v", len(ic.Extra), err)
		}
		states, err := h.ExportSessionState(t.Context())
		if err != nil || len(states) != 1 {
			t.Fatalf("%d sessions, %v", len(states), err)
		}
		text, err := engine.EncodeSessionState(&states[0])
		if want := `"metadata":{"user":1},"later":{"<a>":1.0},"n8nApiMaxRetries":5,"n8nApiTimeout":45000}}`; err != nil || !bytes.HasSuffix(text, []byte(want)) {
			t.Errorf("%s, %v", text, err)
		}
		if rotated.Context.Extra != nil {
			t.Error("the caller's context was written to")
		}
	})
}
