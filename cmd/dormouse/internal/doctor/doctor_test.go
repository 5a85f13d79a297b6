package doctor_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/doctor"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/store"
)

// of returns what was found at a check.
func of(findings []doctor.Finding, check string) (found doctor.Finding) {
	for _, f := range findings {
		if f.Check == check {
			found = f
		}
	}
	return found
}

// TestWithoutFolder: an upstream can be looked at before there is a data folder.
func TestWithoutFolder(t *testing.T) {
	t.Parallel()
	answers := `read line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"few words","version":"7"}}}'; cat >/dev/null`
	o := doctor.Options{Store: store.Options{Dir: filepath.Join(t.TempDir(), "none")}}
	if found := doctor.Examine(t.Context(), o); len(found) != 1 {
		t.Errorf("nothing asked: %+v", found)
	}
	o.Command = []string{"/bin/sh", "-c", answers}
	found := doctor.Examine(t.Context(), o)
	if f := of(found, "upstream"); f.State != doctor.OK || !strings.Contains(f.Detail, "few words") {
		t.Errorf("command: %+v", found)
	}
	if f := of(found, "data folder"); f.State != doctor.Fail {
		t.Errorf("folder: %+v", f)
	}
}

// TestUpstreamShown: what is said of an upstream holds no credentials, whether it answers or not.
func TestUpstreamShown(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("key") != "SECRET" {
			status = http.StatusForbidden // shown by the check below
		}
		w.WriteHeader(status)
	}))
	defer up.Close()
	o := doctor.Options{Store: store.Options{Dir: filepath.Join(t.TempDir(), "none")}}
	host := strings.TrimPrefix(up.URL, "http://")
	for url, want := range map[string]string{
		"http://who:SECRET@" + host + "/mcp?key=SECRET": "http://" + host + "/mcp answers (OPTIONS: 200)",
		"http://SECRET@127.0.0.1:1/mcp?key=SECRET":      "http://127.0.0.1:1/mcp: ",
		"http://127.0.0.1:1\x7f/?key=SECRET":            "a URL that cannot be read: ",
	} {
		o.Upstream = url
		f := of(doctor.Examine(t.Context(), o), "upstream")
		if !strings.Contains(f.Detail, want) || strings.Contains(f.Detail, "SECRET") {
			t.Errorf("%q: %+v", url, f)
		}
	}
}
