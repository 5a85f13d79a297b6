package replay

import (
	"errors"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// ErrNeedsSnapshot says that the stream no longer begins where the fold would have to: its first
// messages were trimmed or lost, and no snapshot bridges them. Restoring without would lose sessions
// silently. It is always a *NeedsSnapshotError, which names what is missing.
var ErrNeedsSnapshot = errors.New("the beginning of the stream is gone")

// ErrClosed says that the follower was closed.
var ErrClosed = errors.New("follower closed")

// NeedsSnapshotError names the messages that a fold needs and the stream has not. It is
// ErrNeedsSnapshot and journal.ErrDamaged.
type NeedsSnapshotError struct {
	From, To journal.Seq // both inclusive
}

func (e *NeedsSnapshotError) Error() string {
	return fmt.Sprintf("messages %d to %d are needed and no longer in the stream, and no snapshot holds them", e.From, e.To)
}

// Is makes it ErrNeedsSnapshot and journal.ErrDamaged.
func (e *NeedsSnapshotError) Is(target error) bool {
	return target == ErrNeedsSnapshot || target == journal.ErrDamaged
}

// DamageError names the exact place where stored history is not what was written.
// It is journal.ErrDamaged.
type DamageError struct {
	Seq    journal.Seq // of the message
	Writer journal.WriterID
	Number uint64 // of the batch among its writer's
	What   string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("message %d (batch %d of writer %v): %s", e.Seq, e.Number, e.Writer, e.What)
}

// Is makes it journal.ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == journal.ErrDamaged }

// ShrunkError says that the stream ends before what was folded from it: an older copy was put in its
// place, or its end was lost. It is journal.ErrDamaged.
type ShrunkError struct {
	Last, Folded journal.Seq
}

func (e *ShrunkError) Error() string {
	return fmt.Sprintf("the stream ends at message %d, but up to %d was folded before", e.Last, e.Folded)
}

// Is makes it journal.ErrDamaged.
func (e *ShrunkError) Is(target error) bool { return target == journal.ErrDamaged }
