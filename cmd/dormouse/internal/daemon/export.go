package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

// maxImport bounds the body of a restore: some hundred thousand sessions.
const maxImport = 512 << 20

var errNoExportKey = errors.New("the encrypted form needs a key: start serve with --export-key-file")

// exportKey reads the key of the encrypted form; nil if no file is named.
func exportKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return ReadExportKey(path)
}

var errExportFormat = errors.New("format must be json or encrypted")

// exportForm reads ?format=, which is json where it is missing or empty.
func (d *daemon) exportForm(r *http.Request) (encrypted bool, err error) {
	switch r.URL.Query().Get("format") {
	case "", "json":
		return false, nil
	case "encrypted":
		if d.exportKey == nil {
			return false, &refusal{http.StatusConflict, errNoExportKey}
		}
		return true, nil
	default:
		return false, &refusal{http.StatusBadRequest, errExportFormat}
	}
}

// exportSessions answers POST /internal/export-sessions: all unexpired sessions, credentials in plaintext, or with
// ?format=encrypted in the seed's encrypted text form.
func (d *daemon) exportSessions(w http.ResponseWriter, r *http.Request) error {
	encrypted, err := d.exportForm(r) // first: what is refused must leave no trace of an export
	if err != nil {
		return err
	}
	sessions, err := d.engine.ExportSessionState(r.Context())
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := engine.EncodeSessionStates(&text, sessions); err != nil {
		return err
	}
	list := text.Bytes()
	d.metrics.Exported(len(sessions), len(list))
	w.Header().Set("Cache-Control", "no-store")
	if !encrypted {
		writeJSON(w, http.StatusOK, map[string]any{"exported": len(sessions), "sessions": json.RawMessage(list)})
		return nil
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return engine.WriteEncrypted(w, list, d.exportKey)
}

// restoreSessions answers POST /internal/restore-sessions: a JSON array, what an export was answered with, or the
// encrypted text form.
func (d *daemon) restoreSessions(w http.ResponseWriter, r *http.Request) error {
	body := http.MaxBytesReader(w, r.Body, maxImport)
	data, err := io.ReadAll(body)
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return &refusal{http.StatusRequestEntityTooLarge, err}
	}
	if err != nil {
		return &refusal{http.StatusBadRequest, fmt.Errorf("read the body: %w", err)}
	}
	if text := bytes.TrimSpace(data); engine.IsEncryptedText(text) {
		if d.exportKey == nil {
			return &refusal{http.StatusConflict, errNoExportKey}
		}
		if data, err = engine.DecryptText(string(text), d.exportKey); err != nil {
			return &refusal{http.StatusBadRequest, err}
		}
	}
	states, err := engine.DecodeSessionStates(bytes.NewReader(data), maxImport)
	if err != nil {
		return &refusal{http.StatusBadRequest, err}
	}
	result, err := d.engine.RestoreSessionState(r.Context(), states)
	if err != nil {
		return err
	}
	d.metrics.Restored(result)
	writeJSON(w, http.StatusOK, result)
	return nil
}

// refusal is an error with its HTTP status.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func (r *refusal) Unwrap() error { return r.err }

// whenReady answers 503 until the sessions are there, and turns errors into answers.
func (d *daemon) whenReady(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !d.serving() {
			w.Header().Set("Retry-After", "1")
			writeJSON(w, http.StatusServiceUnavailable, d.readiness())
			return
		}
		err := serve(w, r)
		if err == nil {
			return
		}
		status := http.StatusInternalServerError
		if p, ok := errors.AsType[*refusal](err); ok {
			status = p.status
		} else if errors.Is(err, journal.ErrUnavailable) || errors.Is(err, journal.ErrOutcomeUnknown) || errors.Is(err, engine.ErrNotReady) {
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "1")
		}
		writeJSON(w, status, map[string]string{"error": err.Error()})
	}
}
