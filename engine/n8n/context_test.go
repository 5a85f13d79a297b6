package n8n_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestParseContext(t *testing.T) {
	ic, err := n8n.ParseContext(headers("x-n8n-url", " HTTPS://n8n.Example.com/ ", "X-N8N-KEY", "secret\t", "x-instance-id", "acme", "x-session-id", "s 1"))
	if err != nil {
		t.Fatal(err)
	}
	want := engine.InstanceContext{N8nAPIURL: "https://n8n.example.com", N8nAPIKey: "secret", InstanceID: "acme", SessionID: "s 1"}
	if ic.N8nAPIURL != want.N8nAPIURL || ic.N8nAPIKey != want.N8nAPIKey || ic.InstanceID != want.InstanceID || ic.SessionID != want.SessionID {
		t.Errorf("got %+v", *ic)
	}
}

func TestParseContextWithoutTenant(t *testing.T) {
	for name, h := range map[string]http.Header{
		"nothing": headers(),
		"empty":   headers("x-n8n-url", "", "x-n8n-key", " "),
		"ids":     headers("x-instance-id", "acme", "x-session-id", "s"),
		"other":   headers("Authorization", "Bearer operator"),
	} {
		if ic, err := n8n.ParseContext(h); ic != nil || err != nil {
			t.Errorf("%s: %v, %v; want no context and no error", name, ic, err)
		}
	}
}

func TestParseContextRefuses(t *testing.T) {
	const url, key = "https://n8n.example.com", "CANARY-secret"
	for name, tt := range map[string]struct {
		h    http.Header
		want error
	}{
		"url alone":       {headers("x-n8n-url", url), n8n.ErrPartialContext},
		"url, empty key":  {headers("x-n8n-url", url, "x-n8n-key", ""), n8n.ErrPartialContext},
		"key alone":       {headers("x-n8n-key", key), n8n.ErrPartialContext},
		"key and ids":     {headers("x-n8n-key", key, "x-instance-id", "i", "x-session-id", "s"), n8n.ErrPartialContext},
		"two urls":        {headers("x-n8n-url", url, "x-n8n-url", "https://evil.example", "x-n8n-key", key), n8n.ErrInvalidContext},
		"two equal keys":  {headers("x-n8n-url", url, "x-n8n-key", key, "x-n8n-key", key), n8n.ErrInvalidContext},
		"two, one empty":  {headers("x-n8n-url", "", "x-n8n-url", "", "x-n8n-key", ""), n8n.ErrInvalidContext},
		"two ids":         {headers("x-n8n-url", url, "x-n8n-key", key, "x-instance-id", "a", "x-instance-id", "b"), n8n.ErrInvalidContext},
		"two session ids": {headers("x-n8n-url", url, "x-n8n-key", key, "x-session-id", "a", "x-session-id", "b"), n8n.ErrInvalidContext},
		"long url":        {headers("x-n8n-url", url+"/"+strings.Repeat("a", 2048), "x-n8n-key", key), n8n.ErrInvalidContext},
		"long key":        {headers("x-n8n-url", url, "x-n8n-key", strings.Repeat("k", 4097)), n8n.ErrInvalidContext},
		"long instance":   {headers("x-n8n-url", url, "x-n8n-key", key, "x-instance-id", strings.Repeat("i", 257)), n8n.ErrInvalidContext},
		"long session":    {headers("x-n8n-url", url, "x-n8n-key", key, "x-session-id", strings.Repeat("s", 257)), n8n.ErrInvalidContext},
		"CRLF in key":     {headers("x-n8n-url", url, "x-n8n-key", key+"\r\nX-Evil: 1"), n8n.ErrInvalidContext},
		"NUL in key":      {headers("x-n8n-url", url, "x-n8n-key", key+"\x00"), n8n.ErrInvalidContext},
		"space in key":    {headers("x-n8n-url", url, "x-n8n-key", key+" x"), n8n.ErrInvalidContext},
		"DEL in instance": {headers("x-n8n-url", url, "x-n8n-key", key, "x-instance-id", "a\x7f"), n8n.ErrInvalidContext},
		"tab in session":  {headers("x-n8n-url", url, "x-n8n-key", key, "x-session-id", "a\tb"), n8n.ErrInvalidContext},
		"non-ASCII id":    {headers("x-n8n-url", url, "x-n8n-key", key, "x-instance-id", "a\u202eb"), n8n.ErrInvalidContext},
		"bytes in url":    {headers("x-n8n-url", url+"\xff", "x-n8n-key", key), n8n.ErrInvalidContext},
		"bad url":         {headers("x-n8n-url", "http://a_b.local", "x-n8n-key", key), n8n.ErrInvalidURL},
	} {
		ic, err := n8n.ParseContext(tt.h)
		if ic != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v; want %v", name, ic, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func TestValidateContextOfAnExport(t *testing.T) {
	good := engine.InstanceContext{N8nAPIURL: "https://n8n.example.com/", N8nAPIKey: "k", Metadata: json.RawMessage(`{"a":1}`)}
	for name, tt := range map[string]struct {
		change func(*engine.InstanceContext)
		want   error
	}{
		"good":         {func(*engine.InstanceContext) {}, nil},
		"empty":        {func(ic *engine.InstanceContext) { *ic = engine.InstanceContext{} }, n8n.ErrNoContext},
		"only ids":     {func(ic *engine.InstanceContext) { ic.N8nAPIURL, ic.N8nAPIKey = "", "" }, n8n.ErrNoContext},
		"no key":       {func(ic *engine.InstanceContext) { ic.N8nAPIKey = "" }, n8n.ErrPartialContext},
		"no url":       {func(ic *engine.InstanceContext) { ic.N8nAPIURL = "" }, n8n.ErrPartialContext},
		"bad metadata": {func(ic *engine.InstanceContext) { ic.Metadata = json.RawMessage(`{`) }, n8n.ErrInvalidContext},
		"big metadata": {func(ic *engine.InstanceContext) {
			ic.Metadata = json.RawMessage(`"` + strings.Repeat("m", 70_000) + `"`)
		}, n8n.ErrInvalidContext},
		"big extra": {func(ic *engine.InstanceContext) {
			ic.Extra = map[string]json.RawMessage{"x": json.RawMessage(`"` + strings.Repeat("m", 40_000) + `"`), strings.Repeat("n", 30_000): json.RawMessage(`1`)}
		}, n8n.ErrInvalidContext},
		"extra": {func(ic *engine.InstanceContext) {
			ic.Extra = map[string]json.RawMessage{"n8nApiTimeout": json.RawMessage(`1`)}
		}, nil},
		"bad key":  {func(ic *engine.InstanceContext) { ic.N8nAPIKey = "a\nb" }, n8n.ErrInvalidContext},
		"loopback": {func(ic *engine.InstanceContext) { ic.N8nAPIURL = "http://127.0.0.1" }, n8n.ErrAddressRefused},
	} {
		ic := good
		tt.change(&ic)
		if err := n8n.Strict.Validate(ic); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("%s: %v; want %v", name, err, tt.want)
		}
	}
}

// FuzzParseContext: hostile header values neither panic nor get through unchecked.
func FuzzParseContext(f *testing.F) {
	f.Add("https://n8n.example.com", "key", "i", "s")
	f.Add("", "", "", "")
	f.Add("http://[::1]:5678/", "k\r\n", "\x00", "ü")
	f.Fuzz(func(t *testing.T, url, key, instance, session string) {
		ic, err := n8n.ParseContext(headers("x-n8n-url", url, "x-n8n-key", key, "x-instance-id", instance, "x-session-id", session))
		if ic == nil {
			return
		}
		if err != nil {
			t.Fatalf("a context and an error: %v", err)
		}
		for _, s := range []string{ic.N8nAPIURL, ic.N8nAPIKey, ic.InstanceID, ic.SessionID} {
			if len(s) > n8n.MaxKeyBytes || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
				t.Fatalf("got through: %q", s)
			}
		}
		if ic.N8nAPIURL == "" || ic.N8nAPIKey == "" {
			t.Fatalf("partial: %+v", *ic)
		}
	})
}
