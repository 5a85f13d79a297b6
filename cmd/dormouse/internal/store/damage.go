package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// DamageError says that the journal is not what was written, and what starting would lose. Nothing was changed. It is
// journal.ErrDamaged.
type DamageError struct {
	Report *audit.Report
	Err    error // what stopped the restore
}

func (e *DamageError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the journal is damaged: %v", e.Err)
	b.WriteString("\n  Starting would go on without this:")
	for i := range e.Report.Faults {
		const most = 20
		if i == most {
			fmt.Fprintf(&b, "\n  - and %d more places", len(e.Report.Faults)-most)
			break
		}
		fmt.Fprintf(&b, "\n  - %s", &e.Report.Faults[i])
	}
	if n := e.Report.Orphans; n > 0 {
		fmt.Fprintf(&b, "\n  Later events tell of %d sessions whose beginning is gone: they are lost, at least", n)
	}
	return b.String()
}

// Unwrap returns what stopped the restore.
func (e *DamageError) Unwrap() error { return e.Err }

// Is makes it journal.ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == journal.ErrDamaged }

// GoneError says that the journal that this folder has had is gone, or a part of it. Nothing was changed. It is
// ErrOtherJournal.
type GoneError struct {
	Journal journal.ID    // zero if only a part of it says that it was there
	Mark    *journal.Mark // what was folded of it once; nil if that is not known
	Err     error
}

func (e *GoneError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: ", ErrOtherJournal)
	if e.Journal != (journal.ID{}) {
		fmt.Fprintf(&b, "journal %s is gone: ", e.Journal)
	}
	b.WriteString(e.Err.Error())
	if m := e.Mark; m != nil {
		fmt.Fprintf(&b, "\n  At %v it held %d batches with %d events, and %d sessions were there", m.When, m.Seq, m.Events, m.Sessions)
	}
	return b.String()
}

// Unwrap returns why it does not open.
func (e *GoneError) Unwrap() error { return e.Err }

// Is makes it ErrOtherJournal.
func (e *GoneError) Is(target error) bool { return target == ErrOtherJournal }

// openGone handles a journal that is not there although it was: it is made anew, over what is left of it, if the
// operator accepts that.
func (s *Store) openGone(ctx context.Context, o jetstream.Options, had journal.ID, mark *journal.Mark, err error) error {
	if !errors.Is(err, jetstream.ErrNoJournal) {
		return err
	}
	if s.server == nil && had == (journal.ID{}) {
		return fmt.Errorf("%w: %w in the NATS at %s: is --nats-prefix right?", ErrNoFolder, err, redacted(s.o.NATSURL))
	}
	if had == (journal.ID{}) && !s.o.Create {
		return fmt.Errorf("%w: there is no journal in %s yet", ErrNoFolder, s.o.Dir)
	}
	if !s.o.AcceptLoss {
		return &GoneError{Journal: had, Mark: mark, Err: err}
	}
	s.Journal, err = jetstream.Renew(ctx, s.nc, o, had)
	s.guard.renewed = err == nil
	return err
}

// damaged reports whether an error of a restore may mean that the journal is not what was written.
func damaged(err error) bool {
	for _, target := range []error{
		journal.ErrDamaged, journal.ErrWrongKey, journal.ErrKeyMissing, journal.ErrMalformed, snapshot.ErrAhead, replay.ErrFolded,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// overcome looks at all of a journal that could not be restored because of cause. If the operator accepts what is lost,
// that is recorded, and the rest restored.
func (s *Store) overcome(ctx context.Context, cause error) error {
	report, err := s.Verify(ctx, VerifyOptions{})
	if errors.Is(err, journal.ErrWrongKey) || errors.Is(err, journal.ErrKeyMissing) {
		return cause // the keyring does not fit at all
	}
	if err != nil {
		return errors.Join(cause, err)
	}
	losses := s.behindSnapshot(report.Losses())
	if len(losses) == 0 {
		return cause
	}
	if !s.o.AcceptLoss {
		return &DamageError{Report: report, Err: cause}
	}
	if err := s.accept(ctx, losses); err != nil {
		return err
	}
	return s.follow(ctx)
}

// Accepted reports whether anything was lost, or taken out of damaged files, that this start accepted. Call it after
// ResolveOrphans.
func (s *Store) Accepted() bool {
	return s.guard.accepted || s.guard.renewed || s.server != nil && len(s.server.Mended()) > 0
}

// behindSnapshot returns the losses, or what is left of them, behind the snapshot that was restored: it holds what came
// before.
func (s *Store) behindSnapshot(losses []journal.Loss) (left []journal.Loss) {
	var held journal.Seq
	if r := s.snapshots.restored; r != nil && r.Manifest != nil {
		held = r.Manifest.Seq
	}
	for _, l := range losses {
		if l.From = max(l.From, held+1); l.From <= l.To {
			left = append(left, l)
		}
	}
	return left
}

// accept records losses.
func (s *Store) accept(ctx context.Context, losses []journal.Loss) error {
	if s.guard.stream == nil {
		if err := s.openMarks(ctx, true); err != nil {
			return err
		}
	}
	var number uint32
	for _, l := range s.guard.losses {
		number = max(number, l.Number)
	}
	s.guard.accepted = true
	for _, l := range losses {
		number++
		l.Number, l.Journal, l.When, l.Replica = number, s.Journal.ID(), journal.InstantOf(time.Now()), s.o.Replica
		l.Text = clip(l.Text)
		if err := s.guard.stream.AddLoss(ctx, l); err != nil {
			return fmt.Errorf("accept loss %d: %w", number, err)
		}
		s.o.Logger.Warn().Uint32("loss", l.Number).Stringer("kind", l.Kind).Uint64("from", uint64(l.From)).Uint64("to", uint64(l.To)).
			Str("what", l.Text).Msg("loss accepted")
	}
	return nil
}

// clip keeps a description short enough for an event.
func clip(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// tellLosses journals what was accepted and is not journaled yet.
func (s *Store) tellLosses(ctx context.Context) error {
	var events []journal.Event
	now := journal.InstantOf(time.Now())
	s.Follower.View(func(st *replay.State) {
		for _, l := range s.guard.losses {
			if !st.Told(l.From, l.To) {
				events = append(events, journal.Event{Kind: journal.KindLossAccepted, At: now, Note: &journal.Note{
					Replica: l.Replica, From: l.From, To: l.To, Count: l.Sessions, Text: l.Text,
				}})
			}
		}
	})
	if s.guard.renewed {
		events = append(events, journal.Event{Kind: journal.KindLossAccepted, At: now, Note: &journal.Note{
			Replica: s.o.Replica, Text: "the journal's streams were made anew over what was left of their files",
		}})
	}
	if s.server != nil {
		mended := s.server.Mended()
		for i := range mended {
			if mended[i].Stream != s.Journal.Batches() { // those are losses
				events = append(events, journal.Event{Kind: journal.KindLossAccepted, At: now, Note: &journal.Note{
					Replica: s.o.Replica, Text: clip("taken out of a block file: " + mended[i].String()),
				}})
			}
		}
	}
	for len(events) > 0 {
		n := min(len(events), 100)
		at, err := s.Committer.Append(ctx, events[:n]...)
		if err == nil {
			err = s.Follower.WaitFor(ctx, at.Seq)
		}
		if err != nil {
			return fmt.Errorf("journal the accepted losses: %w", err)
		}
		events = events[n:]
	}
	return nil
}
