package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The sentinels are part of the contract; test for them with errors.Is. Errors of the journal pass
// through wrapped: journal.ErrUnavailable and journal.ErrOutcomeUnknown are 503 with Retry-After.
var (
	// ErrUnknownSession says that the session is unknown, has ended, or is not the caller's: 404. The
	// three are told apart in the security log only.
	ErrUnknownSession = errors.New("unknown session")

	// ErrSessionLimit says that a limit on sessions is reached: 429. The text says which limit.
	ErrSessionLimit = errors.New("session limit reached")

	// ErrNotReady says that the engine is shutting down: 503.
	ErrNotReady = errors.New("not ready")

	// ErrClaimLost says that another claim of the same epoch came first, or that the epoch has moved on:
	// read Session.Binding and adopt the winner's.
	ErrClaimLost = errors.New("another replica claimed it")
)

// unreachable makes err an ErrUnavailable unless it says something more exact already.
func unreachable(err error) error {
	for _, known := range [...]error{
		journal.ErrUnavailable, journal.ErrOutcomeUnknown, journal.ErrTooLarge, journal.ErrMalformed,
		journal.ErrKeyErased, journal.ErrKeyMissing, journal.ErrWrongKey, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", journal.ErrUnavailable, err)
}
