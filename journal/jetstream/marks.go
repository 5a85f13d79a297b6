package jetstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Marks keeps replicas' high-water marks and accepted losses in a small stream of their own, so that neither
// shares a file with tenants' keys, whose bytes must be erasable, nor with the batches, whose loss they are to
// show. It implements replay.MarkStore and replay.LossStore. Safe for concurrent use.
type Marks struct {
	j      *Journal
	stream js.Stream
}

// OpenMarks opens the journal's stream of marks. If there is none it makes it, or, unless create is set,
// returns journal.ErrNoMessage: nothing was ever marked there. Errors: those of Open.
func (j *Journal) OpenMarks(ctx context.Context, replicas int, create bool) (*Marks, error) {
	want := j.markConfig(Options{Replicas: max(replicas, 1)})
	s, err := j.js.Stream(ctx, want.Name)
	if errors.Is(err, js.ErrStreamNotFound) && !create {
		return nil, fmt.Errorf("marks: %w", journal.ErrNoMessage)
	}
	if errors.Is(err, js.ErrStreamNotFound) {
		// Over what may be left of its files, if its definition was damaged.
		b, boundsErr := j.Bounds(ctx)
		if boundsErr != nil {
			return nil, boundsErr
		}
		if err := j.renew(ctx, want, j.id, b.Last > 0); err != nil && !hasCode(err, js.JSErrCodeStreamNameInUse) {
			return nil, err
		}
		s, err = j.appear(ctx, want.Name)
	}
	if err != nil {
		return nil, askError(ctx, "open stream "+want.Name, err)
	}
	if id := s.CachedInfo().Config.Metadata[metaJournal]; id != j.id.String() {
		return nil, fmt.Errorf("%w: %s is of journal %q, not of %v", ErrWrongStream, want.Name, id, j.id)
	}
	return &Marks{j: j, stream: s}, nil
}

// markConfig keeps the last message of each subject alone: a replica's newest mark, and each loss, which
// has a subject of its own and is written once.
func (j *Journal) markConfig(o Options) js.StreamConfig {
	c := j.config("MARKS", "Dormouse: high-water marks and accepted losses", j.prefix+".marks.*", o)
	c.Subjects = append(c.Subjects, j.prefix+".losses.*")
	c.MaxMsgsPerSubject = 1
	c.Discard = js.DiscardOld
	return c
}

// PutMark stores a replica's newest mark in place of the one before.
func (s *Marks) PutMark(ctx context.Context, m journal.Mark) error {
	if err := s.j.guard.Admit(0); err != nil {
		return unavailable("store mark", err)
	}
	connected, release := s.j.whileConnected(ctx)
	defer release()
	_, err := s.j.js.Publish(connected, s.markSubject(m.Replica), journal.AppendMark(nil, m), js.WithRetryAttempts(0))
	if err != nil {
		return publishError(connected, err)
	}
	return nil
}

// Marks returns every replica's newest mark, by sequence. One that cannot be read fails with
// journal.ErrMalformed.
func (s *Marks) Marks(ctx context.Context) ([]journal.Mark, error) {
	marks, err := load(ctx, s, ".marks.*", journal.ParseMark)
	slices.SortFunc(marks, func(a, b journal.Mark) int { return cmp.Compare(a.Seq, b.Seq) })
	return marks, err
}

// AddLoss records an accepted loss. It fails with journal.ErrLossExists if its number is taken.
func (s *Marks) AddLoss(ctx context.Context, l journal.Loss) error {
	subject := s.j.prefix + ".losses." + strconv.FormatUint(uint64(l.Number), 10)
	data := journal.AppendLoss(nil, l)
	if err := s.j.guard.Admit(len(data)); err != nil {
		return unavailable("store loss", err)
	}
	_, err := s.j.publish(ctx, subject, 0, data)
	if errors.Is(err, journal.ErrConflict) {
		return journal.ErrLossExists
	}
	return err
}

// Losses returns the accepted losses by number. One that cannot be read fails with journal.ErrMalformed.
func (s *Marks) Losses(ctx context.Context) ([]journal.Loss, error) {
	losses, err := load(ctx, s, ".losses.*", journal.ParseLoss)
	slices.SortFunc(losses, func(a, b journal.Loss) int { return cmp.Compare(a.Number, b.Number) })
	return losses, err
}

// load returns the last message of each subject by the word of the stream's leader.
func load[T any](ctx context.Context, s *Marks, filter string, parse func([]byte) (T, error)) ([]T, error) {
	connected, release := s.j.whileConnected(ctx)
	defer release()
	info, _, err := askInfo(connected, s.stream, js.WithSubjectFilter(s.j.prefix+filter))
	if err != nil {
		return nil, askError(connected, "load marks", err)
	}
	var all []T
	for subject := range info.State.Subjects {
		raw, err := s.stream.GetLastMsgForSubject(connected, subject)
		if errors.Is(err, js.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, askError(connected, "load marks", err)
		}
		v, err := parse(raw.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", subject, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// markSubject names a replica by a hash, because its name may be anything.
func (s *Marks) markSubject(r journal.ReplicaID) string {
	sum := sha256.Sum256([]byte(r))
	return s.j.prefix + ".marks." + hex.EncodeToString(sum[:8])
}
