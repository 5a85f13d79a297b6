package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// SessionState is one session as the seed API exports it. It holds credentials in plaintext: seal it
// before it is stored anywhere.
//
// Reading one from JSON fails only if the text is not JSON: what does not have the right form is kept as
// invalid, and RestoreSessionState skips and counts it, so that one bad entry does not cost the others.
type SessionState struct {
	SessionID journal.SessionID `json:"sessionId"`
	Metadata  SessionMetadata   `json:"metadata"`
	Context   InstanceContext   `json:"context"`

	fault error // what was wrong with its JSON
}

// SessionMetadata says when a session was created and last used.
type SessionMetadata struct {
	CreatedAt  time.Time
	LastAccess time.Time
}

type metadataWire struct {
	CreatedAt  string `json:"createdAt"`
	LastAccess string `json:"lastAccess"`
}

// MarshalJSON writes the times as JavaScript's Date.toISOString does.
func (m SessionMetadata) MarshalJSON() ([]byte, error) {
	return json.Marshal(metadataWire{journal.InstantOf(m.CreatedAt).String(), journal.InstantOf(m.LastAccess).String()})
}

// UnmarshalJSON reads RFC 3339 times, with or without a fraction.
func (m *SessionMetadata) UnmarshalJSON(data []byte) error {
	var w metadataWire
	err := json.Unmarshal(data, &w)
	if err == nil {
		m.CreatedAt, err = time.Parse(time.RFC3339, w.CreatedAt)
	}
	if err == nil {
		m.LastAccess, err = time.Parse(time.RFC3339, w.LastAccess)
	}
	if err != nil {
		*m = SessionMetadata{}
		return fmt.Errorf("metadata: %w: want createdAt and lastAccess in ISO 8601", journal.ErrMalformed)
	}
	return nil
}

// UnmarshalJSON never fails; see SessionState.
func (s *SessionState) UnmarshalJSON(data []byte) error {
	type plain SessionState // without this method
	var p plain
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		p.fault = fmt.Errorf("%w: null", journal.ErrMalformed)
	} else if err := json.Unmarshal(data, &p); err != nil {
		// The JSON package's text may quote the input, which may be a secret.
		p = plain{fault: fmt.Errorf("%w: not a session state", journal.ErrMalformed)}
	}
	*s = SessionState(p)
	return nil
}

// Malformed reports whether the JSON from which s was read was none of a session state.
func (s *SessionState) Malformed() bool { return s.fault != nil || s.SessionID == "" }

// DecodeSessionStates reads a JSON array of session states, bare or as in EachSessionState, at most limit bytes of it,
// and nothing behind it.
// It fails with journal.ErrMalformed or journal.ErrTooLarge; no error quotes the input.
func DecodeSessionStates(r io.Reader, limit int64) ([]SessionState, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("session states: %w", err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("session states: %w: more than %d bytes", journal.ErrTooLarge, limit)
	}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		states := []SessionState{}
		err := eachState(bytes.NewReader(data), int64(len(data))+1, func(s SessionState) error {
			states = append(states, s)
			return nil
		})
		if err != nil {
			return nil, err
		}
		return states, nil
	}
	var states []SessionState
	if err := json.Unmarshal(data, &states); err != nil || states == nil {
		return nil, fmt.Errorf("session states: %w: want a JSON array", journal.ErrMalformed)
	}
	return states, nil
}

// EncodeSessionStates writes what DecodeSessionStates reads, as JavaScript's JSON.stringify would.
func EncodeSessionStates(w io.Writer, states []SessionState) error {
	if states == nil {
		states = []SessionState{} // [] and not null
	}
	var b bytes.Buffer
	defer func() { clear(b.Bytes()) }()
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(states); err != nil {
		return fmt.Errorf("session states: %w", journal.ErrMalformed)
	}
	_, err := w.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return err
}

// maxAhead is how far in the future an imported session's times may lie: clocks differ.
const maxAhead = 5 * time.Minute

var errInvalidState = errors.New("invalid session state")

// check judges all but the context.
func (s *SessionState) check(now time.Time, form *regexp.Regexp) error {
	m := s.Metadata
	switch {
	case s.fault != nil:
		return s.fault
	case len(s.SessionID) < 16 || len(s.SessionID) > maxSessionID || !form.MatchString(s.SessionID.Reveal()):
		return fmt.Errorf("%w: session ID of another form", errInvalidState)
	case m.CreatedAt.UnixMilli() <= 0 || m.LastAccess.UnixMilli() <= 0:
		return fmt.Errorf("%w: a time is missing or before 1970", errInvalidState)
	case m.LastAccess.Before(m.CreatedAt):
		return fmt.Errorf("%w: last access before creation", errInvalidState)
	case m.LastAccess.Sub(now) > maxAhead:
		return fmt.Errorf("%w: last access lies in the future", errInvalidState)
	case !s.Context.Complete():
		return fmt.Errorf("%w: incomplete context", errInvalidState)
	case len(s.Context.Metadata) > 0 && !json.Valid(s.Context.Metadata):
		return fmt.Errorf("%w: the context's metadata is not JSON", errInvalidState)
	}
	if err := checkExtra(s.Context.Extra); err != nil {
		return fmt.Errorf("%w: %w", errInvalidState, err)
	}
	return nil
}

// sessionIDForm is what an imported session ID may be: unreserved URL characters, or n8n-mcp's form with the
// instance ID in it, in visible ASCII.
func sessionIDForm() *regexp.Regexp {
	return regexp.MustCompile(`^([A-Za-z0-9._~-]+|instance-[!-~]+-[!-~]+-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)
}
