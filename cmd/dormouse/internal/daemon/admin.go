package daemon

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// adminToken reads the token that /internal/ wants, or makes one in the data folder.
func (d *daemon) adminToken() (token, path string, err error) {
	path = d.c.AdminTokenFile
	if path == "" {
		path = filepath.Join(d.c.Store.Dir, "admin.token")
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && d.c.AdminTokenFile == "" {
		token = rand.Text() + rand.Text()
		return token, path, os.WriteFile(path, []byte(token+"\n"), 0o600)
	}
	if err != nil {
		return "", path, fmt.Errorf("admin token: %w", err)
	}
	token = strings.TrimSpace(string(data))
	if len(token) < 16 {
		return "", path, fmt.Errorf("admin token: %s holds fewer than 16 characters", path)
	}
	return token, path, nil
}

// admin is what operators reach: /metrics for everybody who can connect, /internal/ with the token.
func (d *daemon) admin() http.Handler {
	internal := http.NewServeMux()
	internal.HandleFunc("GET /internal/sessions", d.whenReady(d.listSessions))
	internal.HandleFunc("POST /internal/export-sessions", d.whenReady(d.exportSessions))
	internal.HandleFunc("POST /internal/restore-sessions", d.whenReady(d.restoreSessions))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	mux.Handle("/internal/", d.withToken(internal))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "dormouse admin: /metrics, and with the bearer token of admin.token: GET /internal/sessions, POST /internal/export-sessions, POST /internal/restore-sessions\n")
	})
	return gateway.KeepPagesOut(d.c.AllowedHosts, mux)
}

// withToken lets only requests with the bearer token through.
func (d *daemon) withToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		want := d.token.Load()
		if want == nil || !strings.EqualFold(scheme, "Bearer") || !same(strings.TrimSpace(given), *want) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="dormouse admin"`)
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "want the bearer token of admin.token"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// same compares in a time that tells nothing, of the length neither.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func (d *daemon) listSessions(w http.ResponseWriter, _ *http.Request) error {
	sessions := d.backend.List()
	writeJSON(w, http.StatusOK, struct {
		Count    int               `json:"count"`
		Sessions []control.Session `json:"sessions"`
	}{len(sessions), sessions})
	return nil
}
