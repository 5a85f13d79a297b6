package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/dormouse-mcp/dormouse/journal"
)

// maxState bounds the JSON of one session state in a stream.
const maxState = 4 << 20

// EachSessionState is DecodeSessionStates for more sessions than should be in memory at once: it calls fn for each.
// It returns fn's error as it is; otherwise it fails with journal.ErrMalformed, journal.ErrTooLarge if an
// entry is longer than 4 MiB, or what reading failed with. fn has then been called for the entries before.
func EachSessionState(r io.Reader, fn func(SessionState) error) error {
	in := &io.LimitedReader{R: r, N: maxState}
	dec := json.NewDecoder(in)
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return streamError(err, in, "want a JSON array")
	}
	for in.N = maxState; dec.More(); in.N = maxState {
		var s SessionState
		in.N = maxState // the decoder may have read ahead
		if err := dec.Decode(&s); err != nil {
			return streamError(err, in, "not JSON, or cut off")
		}
		if err := fn(s); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return streamError(err, in, "not JSON, or cut off")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return streamError(err, in, "something behind the JSON array")
	}
	return nil
}

// streamError tells what is wrong without quoting the input.
func streamError(err error, in *io.LimitedReader, what string) error {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	switch {
	case in.N <= 0:
		return fmt.Errorf("session states: %w: an entry of more than %d bytes", journal.ErrTooLarge, maxState)
	case err == nil, syntax, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("session states: %w: %s", journal.ErrMalformed, what)
	default:
		return fmt.Errorf("session states: %w", err)
	}
}

// EncodeSessionState returns s as EncodeSessionStates writes it within its array.
func EncodeSessionState(s *SessionState) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("session states: %w", journal.ErrMalformed)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
