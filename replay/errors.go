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

// ErrFolded says that a loss was accepted of messages that this state has folded. Fold from the beginning, or from a
// snapshot that was taken before them.
var ErrFolded = errors.New("accepted as lost, but folded here")

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

	// Since and Until are the first and the last message that may be the wrong one: Seq itself, if it is that one.
	Since, Until journal.Seq
	// Whole says that this message is what its writer wrote: what is wrong lies before it, and it can be read
	// once that is accepted.
	Whole bool
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
	Mark         *journal.Mark // that says so; nil: this process had folded it
}

func (e *ShrunkError) Error() string {
	if e.Mark == nil {
		return fmt.Sprintf("the stream ends at message %d, but up to %d was folded before", e.Last, e.Folded)
	}
	return fmt.Sprintf("the stream ends at message %d, but replica %s had folded up to %d at %v", e.Last, e.Mark.Replica, e.Folded, e.Mark.When)
}

// Is makes it journal.ErrDamaged.
func (e *ShrunkError) Is(target error) bool { return target == journal.ErrDamaged }

// MarkError says that the history is not the one that a replica had folded: something in it was exchanged. It is
// journal.ErrDamaged.
type MarkError struct {
	Mark  journal.Mark
	Since journal.Seq // up to here the history is as it was
}

func (e *MarkError) Error() string {
	return fmt.Sprintf("the history up to message %d is not the one that replica %s had folded at %v", e.Mark.Seq, e.Mark.Replica, e.Mark.When)
}

// Is makes it journal.ErrDamaged.
func (e *MarkError) Is(target error) bool { return target == journal.ErrDamaged }

// UnknownLossError says that a batch tells of an accepted loss that is not known here: another replica accepted it,
// or its record is gone. Restart, which reads the records. It is journal.ErrDamaged.
type UnknownLossError struct {
	Seq  journal.Seq // of the batch
	Note journal.Note
}

func (e *UnknownLossError) Error() string {
	return fmt.Sprintf("message %d says that replica %s accepted the loss of messages %d to %d, of which there is no record here", e.Seq, e.Note.Replica, e.Note.From, e.Note.To)
}

// Is makes it journal.ErrDamaged.
func (e *UnknownLossError) Is(target error) bool { return target == journal.ErrDamaged }
