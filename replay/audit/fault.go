package audit

import (
	"fmt"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// FaultKind says what is wrong at a place. The text is stable: programs read it.
type FaultKind string

// The kinds of faults.
const (
	// FaultMissing: the stream has a hole.
	FaultMissing FaultKind = "missing"
	// FaultUnreadable: the message is there, and is no batch or does not open under its key.
	FaultUnreadable FaultKind = "unreadable"
	// FaultForeign: the batch belongs to another journal.
	FaultForeign FaultKind = "foreign"
	// FaultMisplaced: the batch opens, but its writer cannot have put it there.
	FaultMisplaced FaultKind = "misplaced"
	// FaultChanged: what is there is not all that was written, or not in its order: a later batch or a mark says so.
	FaultChanged FaultKind = "changed"
	// FaultBegins: the stream begins too late.
	FaultBegins FaultKind = "begins-late"
	// FaultEnds: the stream ends before what a replica had folded.
	FaultEnds FaultKind = "ends-early"
	// FaultGone: the stream itself is gone, or the server no longer takes it for one.
	FaultGone FaultKind = "gone"
	// FaultBlock: a part of the store's files is damaged that holds none of the batches reported as missing.
	FaultBlock FaultKind = "block"
	// FaultKey: a tenant's data key is not as it must be.
	FaultKey FaultKind = "tenant-key"
	// FaultUntold: a loss is recorded as accepted, and no event says so.
	FaultUntold FaultKind = "untold-loss"
)

// Fault is one place where the history is not what was written.
type Fault struct {
	Kind FaultKind   `json:"kind"`
	From journal.Seq `json:"from,omitempty"` // the messages concerned; zero: none
	To   journal.Seq `json:"to,omitempty"`   // the last of them
	// Noticed is the message that showed it, if that is another one.
	Noticed journal.Seq `json:"noticed,omitempty"`
	// Since is from where on histories cannot be compared any more, if that is before From.
	Since journal.Seq `json:"since,omitempty"`
	// After and Before are when the neighbors of these messages were stored.
	After   time.Time `json:"after,omitzero"`
	Before  time.Time `json:"before,omitzero"`
	Writers []Batches `json:"writers,omitempty"` // whose batches are concerned, as far as known
	// Batches, Events and Sessions are concerned, at least.
	Batches  uint64 `json:"batches,omitempty"`
	Events   uint64 `json:"events,omitempty"`
	Sessions uint64 `json:"sessions,omitempty"`
	Tenant   string `json:"tenant,omitempty"` // FaultKey
	Key      string `json:"key,omitempty"`    // FaultKey
	Detail   string `json:"detail"`
}

// Batches are batches of one writer, by their numbers.
type Batches struct {
	Writer string `json:"writer"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
}

func (b Batches) String() string {
	if b.From == b.To {
		return fmt.Sprintf("batch %d of writer %s", b.From, b.Writer)
	}
	return fmt.Sprintf("batches %d to %d of writer %s", b.From, b.To, b.Writer)
}

// Place names the messages concerned.
func (f *Fault) Place() string { return place(f.From, f.To) }

func place(from, to journal.Seq) string {
	switch from {
	case 0:
		return "the store"
	case to:
		return fmt.Sprintf("message %d", from)
	default:
		return fmt.Sprintf("messages %d to %d", from, to)
	}
}

// String describes the fault in one line.
func (f *Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.Place(), f.Detail)
	if len(f.Writers) > 0 {
		names := make([]string, 0, len(f.Writers))
		for _, w := range f.Writers {
			names = append(names, w.String())
		}
		fmt.Fprintf(&b, "; %s", strings.Join(names, ", "))
	}
	switch {
	case !f.After.IsZero() && !f.Before.IsZero():
		fmt.Fprintf(&b, "; stored between %s and %s", stamp(f.After), stamp(f.Before))
	case !f.After.IsZero():
		fmt.Fprintf(&b, "; stored after %s", stamp(f.After))
	case !f.Before.IsZero():
		fmt.Fprintf(&b, "; stored before %s", stamp(f.Before))
	}
	if n := f.affected(); n != "" {
		fmt.Fprintf(&b, "; %s", n)
	}
	return b.String()
}

func (f *Fault) affected() string {
	var parts []string
	for _, n := range []struct {
		count uint64
		what  string
	}{{f.Batches, "batch"}, {f.Events, "event"}, {f.Sessions, "session"}} {
		if n.count > 0 {
			parts = append(parts, plural(n.count, n.what))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "at least " + strings.Join(parts, ", ")
}

// Hint tells the operator what can be done.
func (f *Fault) Hint() string {
	switch f.Kind {
	case FaultKey:
		return "bring the key stream back from a backup; until then these sessions cannot wake. `dormouse serve --accept-loss` closes them"
	case FaultGone:
		return "bring the folder back from a backup; `dormouse serve --accept-loss` makes the stream anew over what is left of its files, and goes on from there"
	case FaultBlock:
		return "bring the folder back from a backup; `dormouse serve --accept-loss` takes the damaged part out and keeps the rest. Without it, a start after a crash is refused"
	case FaultUntold:
		return "if an operator accepted it, start `dormouse serve` once, which journals that; if nobody did, somebody tampers with the store"
	case FaultEnds:
		return "bring the newer store back if there is one (an older copy may have been put in its place); `dormouse serve --accept-loss` goes on from where it ends"
	case FaultChanged:
		return "somebody or something exchanged batches: compare with a backup; `dormouse serve --accept-loss` keeps what is there"
	default:
		return "bring the folder back from a backup; `dormouse serve --accept-loss` goes on without what is named here and keeps all the rest"
	}
}

func stamp(t time.Time) string { return journal.InstantOf(t).String() }

func plural(n uint64, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "ch"):
		return fmt.Sprintf("%d %ses", n, what)
	default:
		return fmt.Sprintf("%d %ss", n, what)
	}
}
