package gateway_test

import (
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// What is shown of a URL holds no credentials.
func TestShownURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"http://h/mcp": "http://h/mcp",
		"https://who:SECRET@h:1/a%2Fb?key=SECRET#SECRET": "https://h:1/a%2Fb",
		"SECRET:whatever":             "secret:",
		"http://h/%zz?key=SECRET":     "a URL that cannot be read",
		"http://h/mcp?api_key=SECRET": "http://h/mcp",
	} {
		if got := gateway.ShownURL(raw); got != want {
			t.Errorf("%s is shown as %s, want %s", raw, got, want)
		}
	}
	for _, raw := range []string{"http://who:SECRET@h/mcp", "http://SECRET@h/mcp", "ftp://h/?key=SECRET", "http://h\x7f/mcp?key=SECRET"} {
		if _, err := gateway.NewHTTPUpstream(raw, gateway.HTTPUpstreamOptions{}); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
