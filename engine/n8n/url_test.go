package n8n_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

func TestCanonicalURL(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{"https://n8n.example.com", "https://n8n.example.com"},
		{"HTTPS://N8N.Example.COM/", "https://n8n.example.com"},
		{"https://n8n.example.com:443/", "https://n8n.example.com"},
		{"http://n8n.example.com:80", "http://n8n.example.com"},
		{"http://n8n.example.com:443", "http://n8n.example.com:443"},
		{"https://n8n.example.com:", "https://n8n.example.com"},
		{"https://n8n.example.com:05678", "https://n8n.example.com:5678"},
		{"https://n8n.example.com./", "https://n8n.example.com"},
		{"https://example.com/team-a/n8n/", "https://example.com/team-a/n8n"},
		{"https://example.com/Team", "https://example.com/Team"},
		{"https://example.com/api/v1", "https://example.com/api/v1"},
		{"http://localhost:5678", "http://localhost:5678"},
		{"http://127.0.0.1:5678/", "http://127.0.0.1:5678"},
		{"http://127.0.0.1./", "http://127.0.0.1"},
		{"http://[::1]:5678", "http://[::1]:5678"},
		{"http://[0:0:0:0:0:0:0:1]", "http://[::1]"},
		{"http://[2001:DB8:0:0::1]/", "http://[2001:db8::1]"},
		{"http://[::ffff:127.0.0.1]", "http://127.0.0.1"},
		{"http://[::ffff:7f00:1]:81", "http://127.0.0.1:81"},
		{"https://bücher.example", "https://xn--bcher-kva.example"},
		{"https://xn--bcher-kva.example", "https://xn--bcher-kva.example"},
		{"https://BÜCHER.example", "https://xn--bcher-kva.example"},
		{"https://faß.example", "https://xn--fa-hia.example"},
		{"https://r3---sn.example.com", "https://r3---sn.example.com"},
		{"http://127。0。0。1", "http://127.0.0.1"},           // ideographic dots
		{"http://①②⑦.⓪.⓪.①", "http://127.0.0.1"},           // circled digits
		{"http://１２７.0.0.1", "http://127.0.0.1"},           // full-width digits
		{"http://ⓛocalhost:5678", "http://localhost:5678"}, // circled letter
		{"https://a.1e100.net", "https://a.1e100.net"},     // ends in no number
		{"https://0x7f.example", "https://0x7f.example"},   // nor does this
		{"https://example.0xzz", "https://example.0xzz"},   // nor this
		{"https://123.example", "https://123.example"},     //
		{"https://example.com/~u/a_b.c", "https://example.com/~u/a_b.c"},
	} {
		got, err := n8n.CanonicalURL(tt.raw)
		if err != nil || got != tt.want {
			t.Errorf("CanonicalURL(%q) = %q, %v; want %q", tt.raw, got, err, tt.want)
		}
	}
}

func TestCanonicalURLRefuses(t *testing.T) {
	for _, raw := range []string{
		"", " ", "n8n.example.com", "//n8n.example.com", "/path", "http:", "http://", "https:///path", "http:n8n.example.com",
		"ftp://example.com", "file:///etc/passwd", "javascript:alert(1)", "gopher://example.com", "ws://example.com", "unix:///run/n8n.sock",
		"http+unix://%2Frun%2Fn8n.sock",
		"https://user@example.com", "https://user:pass@example.com", "https://@example.com", "https://good.example@127.0.0.1",
		"https://example.com/a@b", "https://example.com?x=1", "https://example.com/?", "https://example.com/#", "https://example.com/#frag",
		"http://a_b.local", "http://_dmarc.example.com", "http://-a.example", "http://a-.example", "http://a..b", "http://.example", "http://.",
		"http://exa mple.com", "http://example.com\t", "http://example.com\r\nX-Evil: 1", "http://example.com\x00", "http://exam\u200bple.com ",
		"http://example.com\\@evil.example", "http:\\\\example.com", "http://example.com\\..\\",
		"http://%31%32%37.0.0.1", "http://example.com%2f@evil", "http://127.0.0.1%00.example",
		"http://2130706433", "http://0x7f000001", "http://0x7f.0.0.1", "http://0177.0.0.1", "http://017700000001", "http://127.1", "http://127.0.1",
		"http://127.0.0.01", "http://127.0.0.0x1", "http://0", "http://256.0.0.1", "http://1.2.3.4.5", "http://1.2.3.4.0x", "http://0x",
		"http://example.1", "http://0xA9FEA9FE", "http://425.510.425.510", "http://①②⑦.1",
		"http://[fe80::1%25eth0]", "http://[fe80::1%eth0]", "http://[::1", "http://::1", "http://[127.0.0.1]", "http://[::g]", "http://[]", "http://[v1.x]",
		"http://example.com:0", "http://example.com:65536", "http://example.com:http", "http://example.com:-1", "http://example.com:80:80",
		"http://example.com/../admin", "http://example.com/a/./b", "http://example.com//", "http://example.com/a//b", "http://example.com/%2e%2e/",
		"http://example.com/a;b", "http://example.com/a b", "http://example.com/ü",
		"http://xn--a", "http://xn--.example", "http://xn--0.example", "http://a\u202eb.example", "http://\ufffd.example", "http://\xff.example",
		"http://" + strings.Repeat("a", 64) + ".example", "http://" + strings.Repeat("a.", 127) + "example",
		"http://example.com/" + strings.Repeat("a", n8n.MaxURLBytes),
	} {
		got, err := n8n.CanonicalURL(raw)
		if !errors.Is(err, n8n.ErrInvalidURL) || !errors.Is(err, n8n.ErrInvalidContext) {
			t.Errorf("CanonicalURL(%q) = %q, %v; want ErrInvalidURL", raw, got, err)
		}
	}
}

func TestURLErrorsHoldNoValue(t *testing.T) {
	for _, raw := range []string{"https://user:CANARY@example.com", "https://example.com/?key=CANARY", "https://CANARY_x.example", "CANARY://x", "http://[CANARY]", "http://x:CANARY", "http://x/%CANARY"} {
		_, err := n8n.CanonicalURL(raw)
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "canary") {
			t.Errorf("CanonicalURL(%q): %v", raw, err)
		}
	}
}

// FuzzURL: whatever comes in, nothing panics, a canonical URL is its own canonical form, and the policy's
// answer is the same for both spellings.
func FuzzURL(f *testing.F) {
	for _, s := range []string{
		"https://n8n.example.com/", "http://[::ffff:10.0.0.1]:80", "http://127。0。0。1/a/b/", "https://bücher.example:443", "http://0x7f.1", "http://a_b",
		"http://[64:ff9b::a9fe:a9fe]", "http://xn--bcher-kva.example./", "HTTP://EXAMPLE.com:0080/~x", "http://ⓛocalhost",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		canonical, err := n8n.CanonicalURL(raw)
		if err != nil {
			return
		}
		again, err := n8n.CanonicalURL(canonical)
		if err != nil || again != canonical {
			t.Fatalf("%q: canonical %q, then %q, %v", raw, canonical, again, err)
		}
		if !strings.HasPrefix(canonical, "http://") && !strings.HasPrefix(canonical, "https://") || strings.ContainsAny(canonical, "@?#%\\ \r\n\t") {
			t.Fatalf("%q: canonical %q", raw, canonical)
		}
		for p := n8n.Strict; p <= n8n.Permissive; p++ {
			a := p.Validate(engine.InstanceContext{N8nAPIURL: raw, N8nAPIKey: "k"})
			b := p.Validate(engine.InstanceContext{N8nAPIURL: canonical, N8nAPIKey: "k"})
			if (a == nil) != (b == nil) {
				t.Fatalf("%s: %q: %v; %q: %v", p, raw, a, canonical, b)
			}
		}
	})
}
