package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
)

// FuzzParse holds the scanner against encoding/json: what parse accepts, a decoder reads the same way.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\"b","arguments":{"x":[1,{"y":"}"}]}}}`,
		`[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","id":2,"result":{}}]`,
		` { "jsonrpc" : "2.0" , "m\u0065thod" : "x\\" } `, `{"jsonrpc":"2.0","id":-1e5,"error":{"code":1}}`, `[]`, `{}`, `"`, "\\",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p payload
		if err := p.parse(body); err != nil {
			_ = p.salvage()
			return
		}
		for i := range p.msgs {
			m := &p.msgs[i]
			var want struct {
				ID     json.RawMessage
				Method string
				Params json.RawMessage
			}
			// encoding/json also takes other spellings of a key, which parse does not: only compare plain ones.
			keys := map[string]json.RawMessage{}
			if err := json.Unmarshal(m.raw, &keys); err != nil {
				t.Fatalf("%q: %v", m.raw, err)
			}
			_ = json.Unmarshal(keys["method"], &want.Method)
			if want.Method != m.method || !bytes.Equal(keys["id"], m.id) || !bytes.Equal(keys["params"], m.params) {
				t.Errorf("%q: %+v", m.raw, m)
			}
		}
		_, _ = p.inward(1)
		_ = p.bygone()
	})
}

// FuzzPeek holds that nothing an upstream sends makes the gateway panic.
func FuzzPeek(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"notifications/cancelled","params":{"requestId":5}}`)) //nolint:misspell // the protocol's spelling
	f.Add([]byte(`{"result":{"isError":true,"tools":[{"name":"a","annotations":{"readOnlyHint":true}}]},"id":"`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		in := peek(data)
		_ = outward(3, data, &in)
		var h hints
		h.learn(in.result)
		_ = lost(400, data, "x")
	})
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("id: 1\nevent: message\ndata: {\"a\":\ndata: 1}\n\n: x\n\ndata\n\nretry: 5\r\ndata:  y\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		er := new(readers).get(iotest.HalfReader(bytes.NewReader(stream)), 1<<16)
		var raw []byte
		for {
			ev, err := er.next()
			if err != nil {
				break
			}
			raw = append(raw, ev.raw...)
		}
		if len(raw) > len(stream)+2 {
			t.Errorf("%q became %q", stream, raw)
		}
		_ = size
	})
}

func TestEvents(t *testing.T) {
	stream := "\n\n: hello\n\nid: 7\nevent: message\ndata: {\"a\":\ndata: 1}\nretry: 5\n\r\ndata:x\r\n\r\nid:\n\ndata: " + strings.Repeat("y", 40_000) + "\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"
	er := new(readers).get(iotest.OneByteReader(strings.NewReader(stream)), 1<<20)
	var got []string
	for {
		ev, err := er.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(ev.data) > 1000 {
			ev.data = []byte("long")
		}
		got = append(got, string(ev.id)+"|"+string(ev.name)+"|"+string(ev.retr)+"|"+string(ev.data))
	}
	want := []string{"|||", "7|message|5|{\"a\":\n1}", "|||x", "|||", "|||long", `|||{"jsonrpc":"2.0","id":1,"result":{}}`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	er = new(readers).get(strings.NewReader("data: "+strings.Repeat("y", 40_000)), 1<<10)
	if _, err := er.next(); !errors.Is(err, errEventTooLarge) {
		t.Error(err)
	}
	if _, err := new(readers).get(strings.NewReader("data: {\"cut"), 1<<10).next(); !errors.Is(err, io.EOF) {
		t.Error("a cut-off event was passed on:", err)
	}
}

func TestQuestionIDs(t *testing.T) {
	for _, c := range []struct {
		epoch    journal.Epoch
		id, want string
	}{
		{1, `1`, `4294967297`},
		{1, `0`, `4294967296`},
		{7, `"a"`, `"e7.a"`},
		{7, `""`, `"e7."`},
		{2, `-1`, `"n2.-1"`},
		{2, `2.5`, `"n2.2.5"`},
		{2, `4294967296`, `"n2.4294967296"`},
		{1 << 21, `1`, `"n2097152.1"`},
		{3, `"e3.x\"\\"`, `"e3.e3.x\"\\"`},
		{1<<21 - 1, `4294967295`, `9007199254740991`},
	} {
		got := questionID(c.epoch, []byte(c.id))
		epoch, orig, ok := answeredID(got)
		if string(got) != c.want || epoch != c.epoch || string(orig) != c.id || !ok || !json.Valid(got) {
			t.Errorf("%d %s: %s, back to %d %s %v", c.epoch, c.id, got, epoch, orig, ok)
		}
	}
	for _, id := range []string{`1`, `"x"`, `"e.x"`, `"e0.x"`, `"e7x"`, `""`, `"n1."`, `"n1.\"x\""`, `18446744073709551615`, `-5`, `1.5`, `"ex.y"`, ``} {
		if _, orig, ok := answeredID([]byte(id)); ok {
			t.Errorf("%s was taken for ours: %s", id, orig)
		}
	}
	if epoch, orig, ok := answeredID([]byte(`"e\u0037.a\/"`)); epoch != 7 || string(orig) != `"a/"` || !ok {
		t.Errorf("an escaped one: %d %s %v", epoch, orig, ok)
	}
}

func TestQuestionIDsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := []byte(rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) string { return string(appendString(nil, s)) }),
			rapid.Map(rapid.Int64(), func(n int64) string { b, _ := json.Marshal(n); return string(b) }),
			rapid.Map(rapid.Float64Range(-1e9, 1e9), func(x float64) string { b, _ := json.Marshal(x); return string(b) }),
		).Draw(t, "id"))
		epoch := journal.Epoch(rapid.Uint64Range(1, 1<<40).Draw(t, "epoch"))
		seen := questionID(epoch, id)
		var decoded any
		d := json.NewDecoder(bytes.NewReader(seen))
		d.UseNumber()
		if err := d.Decode(&decoded); err != nil {
			t.Fatal(err)
		}
		back, err := json.Marshal(decoded) // a client decodes and encodes
		if err != nil {
			t.Fatal(err)
		}
		e, orig, ok := answeredID(back)
		var a, b any
		if !ok || e != epoch || json.Unmarshal(orig, &a) != nil || json.Unmarshal(id, &b) != nil || a != b {
			t.Fatalf("%s at %d: %s came back as %s at %d", id, epoch, seen, orig, e)
		}
	})
}

func TestCursors(t *testing.T) {
	c := &cursorCodec{key: []byte("0123456789abcdef")}
	ref, other := journal.SessionID("a").Ref(), journal.SessionID("b").Ref()
	at := cursor{epoch: 300, request: []byte(`"x_é"`), upstream: []byte("s_17")}
	id := string(c.encode(ref, at))
	got, ok := c.decode(ref, id)
	if !ok || got.epoch != 300 || string(got.request) != `"x_é"` || string(got.upstream) != "s_17" {
		t.Errorf("%+v %v", got, ok)
	}
	at.opening = 1<<63 + 1
	if got, ok := c.decode(ref, string(c.encode(ref, at))); !ok || got.opening != at.opening || string(got.upstream) != "s_17" {
		t.Errorf("%+v %v", got, ok)
	}
	if _, ok := c.decode(other, id); ok {
		t.Error("another session's ID is taken")
	}
	if _, ok := (&cursorCodec{key: []byte("another key.....")}).decode(ref, id); ok {
		t.Error("an ID under another key is taken")
	}
	for i := range id {
		b := []byte(id)
		b[i] ^= 1
		if got, ok := c.decode(ref, string(b)); ok && string(c.encode(ref, got)) != string(b) && i < len(id)-1 {
			t.Errorf("altered at %d: taken", i)
		}
	}
	if c.encode(ref, cursor{upstream: make([]byte, maxCursor+1)}) != nil {
		t.Error("an ID without bounds")
	}
}

func TestOutboundHeadersAreFresh(t *testing.T) {
	in := map[string][]string{"A": {"1"}}
	out := outbound(in)
	out["A"] = []string{"2"}
	if in["A"][0] != "1" {
		t.Error(in, out)
	}
}
