package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Query says which events of the history are wanted. The zero Query wants all that the stream holds now.
type Query struct {
	// Session, if not nil, wants the events of that session alone.
	Session *journal.Ref
	// Since and Until bound the events' times, by their writers' clocks: Since included, Until not.
	// Zero means no bound.
	Since, Until journal.Instant
	// Kinds, if not empty, wants these kinds alone.
	Kinds []journal.Kind
	// After wants what stands behind this position in the log. Zero means from the beginning.
	After journal.Position
	// Follow goes on with new events as they are stored, until the context ends.
	Follow bool
	// Verdicts folds the whole journal alongside, so that entries say what became of their events. It opens
	// every batch from the first one on, and fails with replay.ErrNeedsSnapshot if those are gone.
	Verdicts bool
	// Tolerant passes over messages that are missing, for who looks for something that is elsewhere. Not with Verdicts.
	Tolerant bool
	// Losses are the accepted losses, all of them: what they name is passed over.
	Losses []journal.Loss
}

// Entry is one event of the history.
type Entry struct {
	Position journal.Position
	Stored   journal.Instant // when the stream stored it, by the stream's clock
	Writer   journal.WriterID
	Event    journal.Event // of a kind newer than this release: Kind is zero

	// Judged says that the fold was asked (Query.Verdicts); the two below are not set otherwise.
	Judged   bool
	Accepted bool
	Refusal  replay.Refusal // why it changed nothing; empty if Accepted
}

// History calls fn with the events that q wants, in the order of the log. It opens only those batches whose
// headers say that they may hold some. It ends with nil at the end of the stream, as it was at the call, or,
// following, with ctx's cause; with fn's error as it is, journal.ErrStop aside, which gives nil; and with
// an error that is journal.ErrDamaged when a message is missing or, with Verdicts, does not belong where it stands.
func History(ctx context.Context, src replay.Source, op replay.Opener, q Query, fn func(Entry) error) error {
	src = replay.Over(src, q.Losses)
	bounds, err := src.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	r := reader{query: q, opener: op, emit: fn, end: replay.LastRead(bounds.Last, q.Losses)}
	after, err := r.start(bounds)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if !q.Follow && after >= r.end {
		return nil
	}
	for {
		err = src.Read(ctx, after, r.take)
		gap, missing := errors.AsType[*journal.GapError](err)
		if !missing || !q.Tolerant || q.Verdicts {
			break
		}
		if after = gap.Next - 1; !q.Follow && after >= r.end {
			return nil
		}
	}
	if errors.Is(err, journal.ErrStop) {
		return nil
	}
	return err
}

// reader picks the wanted events out of messages.
type reader struct {
	query  Query
	opener replay.Opener
	emit   func(Entry) error
	end    journal.Seq   // the last message, unless following
	state  *replay.State // nil unless verdicts are wanted
}

// start returns the message to read after.
func (r *reader) start(b journal.Bounds) (journal.Seq, error) {
	if r.query.Verdicts {
		if b.First > 1 {
			return 0, &replay.NeedsSnapshotError{From: 1, To: b.First - 1}
		}
		r.state = replay.NewState()
		return 0, r.state.Accept(r.query.Losses...)
	}
	// The batch of After may hold more behind it. What was trimmed is nobody's to read.
	return max(r.query.After.Seq, b.First, 1) - 1, nil
}

func (r *reader) take(m journal.Message) error {
	if err := r.message(m); err != nil {
		return err
	}
	if !r.query.Follow && m.Seq >= r.end {
		return journal.ErrStop
	}
	return nil
}

func (r *reader) message(m journal.Message) error {
	if r.state != nil {
		return r.judge(m)
	}
	h, _, err := journal.ParseHeader(m.Data)
	if err != nil {
		return fmt.Errorf("message %d: %w", m.Seq, err)
	}
	if !r.mayHold(&h) {
		return nil
	}
	b, err := r.open(m)
	if err != nil {
		return err
	}
	for i := range b.Events {
		if err := r.offer(entry(m, b, i)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) open(m journal.Message) (*journal.Batch, error) {
	b, err := r.opener.Open(m.Data)
	if err != nil {
		return nil, fmt.Errorf("open message %d: %w", m.Seq, err)
	}
	return b, nil
}

// judge folds the message and offers its events with the fold's word on each.
func (r *reader) judge(m journal.Message) error {
	b, err := r.open(m)
	if err != nil {
		return err
	}
	var failed error
	err = r.state.ApplyFunc(m, b, func(i int, why replay.Refusal) {
		if failed == nil {
			e := entry(m, b, i)
			e.Judged, e.Accepted, e.Refusal = true, why == "", why
			failed = r.offer(e)
		}
	})
	if err != nil {
		return err
	}
	return failed
}

func entry(m journal.Message, b *journal.Batch, i int) Entry {
	return Entry{
		Position: journal.Position{Seq: m.Seq, Index: uint32(i)},
		Stored:   m.Time, Writer: b.Writer, Event: b.Events[i],
	}
}

// mayHold reports false only if the header rules every event of the batch out.
func (r *reader) mayHold(h *journal.Header) bool {
	q := &r.query
	switch {
	case q.Session != nil && !h.Refs.MayHold(*q.Session):
		return false
	case q.Since != 0 && h.Last < q.Since:
		return false
	case q.Until != 0 && h.First >= q.Until:
		return false
	}
	return true
}

// offer hands the entry on if it is wanted.
func (r *reader) offer(e Entry) error {
	q := &r.query
	switch {
	case !q.After.IsZero() && e.Position.Compare(q.After) <= 0,
		q.Session != nil && e.Event.Ref != *q.Session,
		q.Since != 0 && e.Event.At < q.Since,
		q.Until != 0 && e.Event.At >= q.Until,
		len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Event.Kind):
		return nil
	}
	return r.emit(e)
}
