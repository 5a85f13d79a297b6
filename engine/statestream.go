package engine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/dormouse-mcp/dormouse/journal"
)

// maxState bounds the JSON of one session state in a stream.
const maxState = 4 << 20

// EachSessionState is DecodeSessionStates for more sessions than should be in memory at once: it calls fn for each.
// Both take the array, or {"exported":N,"sessions":[...]} with those two members in that order, as the admin API
// answers an export; N may be any number.
// It returns fn's error as it is; otherwise it fails with journal.ErrMalformed, journal.ErrTooLarge if an
// entry is longer than 4 MiB, or what reading failed with. fn has then been called for the entries before.
func EachSessionState(r io.Reader, fn func(SessionState) error) error {
	return eachState(r, maxState, fn)
}

// eachState is EachSessionState with entries of up to limit bytes.
func eachState(r io.Reader, limit int64, fn func(SessionState) error) error {
	in := &io.LimitedReader{R: r, N: limit}
	dec := json.NewDecoder(in)
	dec.UseNumber() // a number that is too big would be an error that quotes it
	ends, err := beginStates(dec)
	if err != nil {
		return streamError(err, in, "want a JSON array")
	}
	for in.N = limit; dec.More(); in.N = limit {
		var s SessionState
		in.N = limit // the decoder may have read ahead
		if err := dec.Decode(&s); err != nil {
			return streamError(err, in, "not JSON, or cut off")
		}
		if err := fn(s); err != nil {
			return err
		}
	}
	for _, end := range ends {
		if t, err := dec.Token(); err != nil || t != end {
			return streamError(err, in, "not JSON, or cut off")
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return streamError(err, in, "something behind the JSON array")
	}
	return nil
}

var errNotStates = errors.New("neither an array nor an export")

// beginStates reads up to the first entry, and returns what must be behind the last one.
func beginStates(dec *json.Decoder) (ends []json.Token, err error) {
	t, err := dec.Token()
	if err != nil || t == json.Delim('[') {
		return []json.Token{json.Delim(']')}, err
	}
	if t != json.Delim('{') {
		return nil, errNotStates
	}
	for _, want := range []func(json.Token) bool{
		func(t json.Token) bool { return t == "exported" },
		func(t json.Token) bool { _, number := t.(json.Number); return number },
		func(t json.Token) bool { return t == "sessions" },
		func(t json.Token) bool { return t == json.Delim('[') },
	} {
		if t, err = dec.Token(); err != nil || !want(t) {
			return nil, cmp.Or(err, errNotStates)
		}
	}
	return []json.Token{json.Delim(']'), json.Delim('}')}, nil
}

// streamError tells what is wrong without quoting the input.
func streamError(err error, in *io.LimitedReader, what string) error {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	switch {
	case in.N <= 0:
		return fmt.Errorf("session states: %w: an entry of more than %d bytes", journal.ErrTooLarge, maxState)
	case err == nil, syntax, errors.Is(err, errNotStates), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
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
