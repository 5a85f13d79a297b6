// Package console is how the command speaks to people: results on standard output, everything else on
// standard error, tables, times, and exit codes that say what kind of failure it was.
package console

import (
	"errors"
	"fmt"
	"io"
)

// The exit codes. They are documented in the help text and are part of the contract.
const (
	ExitOK      = 0
	ExitFailed  = 1 // it was tried and failed, or the answer is no
	ExitUsage   = 2 // the command line, an environment variable or the configuration file is wrong
	ExitRefused = 3 // not done because it would be unsafe: folder in use, no authentication beyond loopback …
)

// Error is a failure with its exit code and what the operator can do next.
type Error struct {
	Code int    // one of the Exit constants
	Err  error  // what went wrong
	Hint string // the next step; may be empty
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Failed returns err with ExitFailed and a hint.
func Failed(err error, hint string, args ...any) error {
	return &Error{Code: ExitFailed, Err: err, Hint: fmt.Sprintf(hint, args...)}
}

// Usage returns err with ExitUsage and a hint.
func Usage(err error, hint string, args ...any) error {
	return &Error{Code: ExitUsage, Err: err, Hint: fmt.Sprintf(hint, args...)}
}

// Refused returns err with ExitRefused and a hint.
func Refused(err error, hint string, args ...any) error {
	return &Error{Code: ExitRefused, Err: err, Hint: fmt.Sprintf(hint, args...)}
}

// Report writes err for a person, hint included, and returns the exit code. A nil err gives ExitOK.
func Report(w io.Writer, err error) int {
	if err == nil {
		return ExitOK
	}
	code, hint := ExitFailed, ""
	if e, ok := errors.AsType[*Error](err); ok {
		code, hint = e.Code, e.Hint
	}
	fmt.Fprintf(w, "dormouse: %v\n", err)
	if hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", hint)
	}
	return code
}
