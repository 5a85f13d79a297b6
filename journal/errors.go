package journal

import (
	"errors"
	"fmt"
)

// The sentinels are part of the contract; test for them with errors.Is.
var (
	// ErrMalformed says that text or bytes do not have the form they must have. Do not retry.
	ErrMalformed = errors.New("malformed")

	// ErrUnavailable says that the stream could not be reached and that nothing was stored. Retry later;
	// over HTTP it is 503 with Retry-After.
	ErrUnavailable = errors.New("journal unavailable")

	// ErrNoLeader says why a replicated stream is ErrUnavailable: its servers have nobody to lead it for the moment. As a
	// rule they elect one within seconds.
	ErrNoLeader = errors.New("the stream has no leader for the moment")

	// ErrOutcomeUnknown says that the caller gave up before the outcome was known: the events may be
	// stored or may yet be. Read the state before trying again.
	ErrOutcomeUnknown = errors.New("outcome unknown")

	// ErrClosed says that the journal was closed before the call. Nothing was stored.
	ErrClosed = errors.New("journal closed")

	// ErrConflict is a port's answer when the last message on the writer's subject is not the expected
	// one. Nothing was stored. Only the committer sees it.
	ErrConflict = errors.New("last sequence differs from the expected one")

	// ErrForeignBatch says that somebody else wrote on this writer's subject. It is fatal to the writer:
	// restart the process, which makes it a new one.
	ErrForeignBatch = errors.New("foreign batch on this writer's subject")

	// ErrNoMessage says that there is no such message (any more).
	ErrNoMessage = errors.New("no such message")

	// ErrTooLarge says that an event does not fit in a batch. Do not retry.
	ErrTooLarge = errors.New("event too large")

	// ErrDamaged says that stored history is not what was written. The message names the place.
	ErrDamaged = errors.New("journal damaged")

	// ErrKeyMissing says that no key of that ID is at hand: the wrong keyring, or an incomplete one.
	ErrKeyMissing = errors.New("key missing")

	// ErrKeyErased says that the tenant's data key was erased on purpose. What it sealed is gone for ever.
	ErrKeyErased = errors.New("key erased")

	// ErrWrongKey says that sealed bytes do not open under the key they name: another key, or tampering.
	ErrWrongKey = errors.New("does not open under its key")

	// ErrStop, returned by the function that a Read calls, ends the Read without an error.
	ErrStop = errors.New("stop reading")
)

// GapError says that messages which a reader had to see are not in the stream. It is ErrDamaged.
type GapError struct {
	// After is the last sequence that was read, Next the first one found behind it.
	After, Next Seq
}

func (e *GapError) Error() string {
	return fmt.Sprintf("messages %d to %d are missing from the stream", e.After+1, e.Next-1)
}

// Is makes a gap an ErrDamaged.
func (e *GapError) Is(target error) bool { return target == ErrDamaged }
