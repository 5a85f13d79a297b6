package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// guard is what shows damage: what was folded once, and what of it was accepted as lost.
type guard struct {
	stream  *jetstream.Marks // nil while there is none
	losses  []journal.Loss
	own     journal.Seq    // of the folder's own mark
	marker  *replay.Marker // nil until Restore
	renewed bool           // streams were made anew

	accepted bool // something was lost, and accepted in this run
	orphaned int  // sessions that were closed because their keys are lost
}

// openMarks opens the stream of marks, if there is one or it may be made.
func (s *Store) openMarks(ctx context.Context, create bool) error {
	m, err := s.Journal.OpenMarks(ctx, s.o.Replicas, create)
	if errors.Is(err, journal.ErrNoMessage) {
		return nil
	}
	s.guard.stream = m
	return err
}

// known is what is kept of the journal beside its stream.
type known struct {
	marks  []journal.Mark
	losses []journal.Loss
	own    journal.Seq // of the folder's own mark
	notes  []string    // what could not be looked at
}

// known reads all marks and accepted losses.
func (s *Store) known(ctx context.Context) (k known, err error) {
	if s.guard.stream != nil {
		if k.losses, err = s.guard.stream.Losses(ctx); err != nil {
			return k, err
		}
		if k.marks, err = s.guard.stream.Marks(ctx); err != nil {
			return k, err
		}
	}
	if s.guard.stream == nil && !s.Fresh {
		k.notes = append(k.notes, "there is no stream of marks any more: an end of the journal that is lost shows in the folder's mark alone")
	}
	m, err := ReadMark(s.o.Dir)
	switch {
	case err == nil:
		k.marks = append(k.marks, m)
	case errors.Is(err, journal.ErrMalformed):
		k.notes = append(k.notes, err.Error()+"; the journal's own marks were looked at alone")
	case !errors.Is(err, fs.ErrNotExist):
		return k, err
	}
	id := s.Journal.ID()
	if m.Journal == id {
		k.own = m.Seq
	}
	k.marks = slices.DeleteFunc(k.marks, func(m journal.Mark) bool { return m.Journal != id })
	k.losses = slices.DeleteFunc(k.losses, func(l journal.Loss) bool { return l.Journal != id })
	return k, nil
}

// Losses returns the accepted losses. Only after Restore.
func (s *Store) Losses() []journal.Loss { return s.guard.losses }

// Source returns the stream without what was accepted as lost. Only after Restore.
func (s *Store) Source() replay.Source { return replay.Over(s.Journal, s.guard.losses) }

// History reads the history for people, over what was accepted as lost. Only after Restore.
func (s *Store) History(ctx context.Context, q audit.Query, fn func(audit.Entry) error) error {
	q.Losses = s.guard.losses
	return audit.History(ctx, s.Journal, s.Opener, q, fn)
}

// Begins returns the first message of a stream whose beginning was trimmed, and when it was stored; zero if it was not,
// or was accepted as lost. Only after Restore.
func (s *Store) Begins(ctx context.Context) (first journal.Seq, stored journal.Instant, err error) {
	b, err := s.Source().Bounds(ctx)
	if err != nil || b.First <= 1 {
		return 0, 0, err
	}
	first = b.First
	if b.Last < b.First {
		return first, 0, nil
	}
	err = s.Source().Read(ctx, b.First-1, func(m journal.Message) error {
		stored = m.Time
		return journal.ErrStop
	})
	if gap, ok := errors.AsType[*journal.GapError](err); ok { // trimmed meanwhile
		return gap.Next, 0, nil
	}
	if errors.Is(err, journal.ErrStop) {
		err = nil
	}
	return first, stored, err
}

// stream is what snapshots trim: without what was accepted as lost.
type stream struct {
	replay.Source

	journal *jetstream.Journal
}

// Trim implements snapshot.Stream.
func (s stream) Trim(ctx context.Context, before journal.Seq) error {
	return s.journal.Trim(ctx, before)
}

// follow folds the journal up to its end, with all that is known of it. Where another replica took a snapshot and
// trimmed what was just to be read, it begins again with that snapshot.
func (s *Store) follow(ctx context.Context) error {
	const attempts = 5
	for try := 1; ; try++ {
		before, err := s.Journal.Bounds(ctx)
		if err != nil {
			return err
		}
		err = s.restore(ctx)
		if try == attempts || !missing(err) {
			return err
		}
		now, boundsErr := s.Journal.Bounds(ctx)
		if boundsErr != nil || now.First <= before.First {
			return err
		}
		s.o.Logger.Info().Err(err).Uint64("first", uint64(now.First)).Msg("another replica trimmed the stream meanwhile; restoring once more")
	}
}

// missing reports whether messages were not there that a restore had to read.
func missing(err error) bool {
	_, gap := errors.AsType[*journal.GapError](err)
	return gap || errors.Is(err, replay.ErrNeedsSnapshot)
}

// restore is one attempt of follow.
func (s *Store) restore(ctx context.Context) error {
	k, err := s.known(ctx)
	if err != nil {
		return err
	}
	for _, note := range k.notes {
		s.o.Logger.Warn().Msg(note)
	}
	s.guard.losses, s.guard.own = k.losses, k.own
	state, err := s.startState(ctx, s.guard.losses)
	if err != nil {
		return err
	}
	o := replay.FollowOptions{
		State: state, Source: s.Journal, Opener: s.Opener, Own: s.Committer.Recent, Progress: s.o.Progress,
		Journal: s.Journal.ID(), Losses: k.losses, Marks: k.marks,
	}
	if s.Journal.Replicated() {
		o.QueryTimeout = jetstream.ElectionPatience
	}
	if s.o.Seen != nil {
		own := s.Committer.Writer()
		o.Seen = func(b *journal.Batch) { s.o.Seen(b.Writer == own, b.Events) }
	}
	s.Follower, err = replay.Follow(ctx, o)
	return err
}

// LossElsewhere reports whether another replica has recorded an accepted loss since this one has restored.
func (s *Store) LossElsewhere(ctx context.Context) bool {
	if s.guard.stream == nil {
		return false
	}
	losses, err := s.guard.stream.Losses(ctx)
	if err != nil {
		s.o.Logger.Warn().Err(err).Msg("accepted losses")
		return false
	}
	return slices.ContainsFunc(losses, func(l journal.Loss) bool {
		return l.Journal == s.Journal.ID() && !slices.Contains(s.guard.losses, l)
	})
}

// startMarker begins to write high-water marks, in the folder and in the journal's own stream.
func (s *Store) startMarker() {
	o := replay.MarkerOptions{
		Follower: s.Follower, Journal: s.Journal.ID(), Replica: cmp.Or(s.o.Replica, "cli"),
		Last: s.guard.own, Logger: s.o.Logger,
		Put: []func(context.Context, journal.Mark) error{func(_ context.Context, m journal.Mark) error { return writeMark(s.o.Dir, m) }},
	}
	if n := len(s.guard.losses); n > 0 {
		o.Losses = s.guard.losses[n-1].Number
	}
	if s.guard.stream != nil {
		o.Put = append(o.Put, s.guard.stream.PutMark)
	}
	s.guard.marker = replay.StartMarker(o)
}

// closeMarker waits until what the committer has stored is folded, and writes the last mark.
func (s *Store) closeMarker(ctx context.Context) {
	if s.guard.marker == nil {
		return
	}
	if last := s.Committer.Stats().Last; last > 0 {
		_ = s.Follower.WaitFor(ctx, last) // if it cannot, the mark is a little older
	}
	s.guard.marker.Close(ctx)
}

// revive lets a stream that was made anew, and is empty, go on behind the newest good snapshot: nothing up to there is
// lost.
func (s *Store) revive(ctx context.Context) error {
	if !s.guard.renewed || s.snapshots.store == nil {
		return nil
	}
	r, err := snapshot.Restore(ctx, snapshot.RestoreOptions{
		Store: s.snapshots.store, Sealer: s.snapshots.sealer, Journal: s.Journal.ID(), Bounds: journal.Bounds{First: 1, Last: 1<<63 - 1},
	})
	if err != nil || r.Manifest == nil {
		return err
	}
	if err := s.Journal.Advance(ctx, r.Manifest.Seq); err != nil {
		return fmt.Errorf("go on behind snapshot %v: %w", r.Manifest.ID, err)
	}
	return nil
}

// tellRenewals logs which streams were made anew, just now or before.
func (s *Store) tellRenewals(ctx context.Context, opened time.Time) error {
	list, err := s.Journal.Renewals(ctx)
	for _, r := range list {
		level := zerolog.InfoLevel
		if !r.When.Before(opened.Truncate(time.Second)) {
			level = zerolog.WarnLevel
		}
		s.o.Logger.WithLevel(level).Stringer("renewal", r).Msg("a stream was made anew; see dormouse verify")
	}
	return err
}
