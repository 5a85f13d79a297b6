package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

var errNotConnected = errors.New("not connected to NATS")

// Publish stores data as the next message on w's subject. See commit.Port.
func (j *Journal) Publish(ctx context.Context, w journal.WriterID, expected journal.Seq, data []byte) (journal.Seq, error) {
	if err := j.guard.Admit(len(data)); err != nil {
		return 0, unavailable("publish", err)
	}
	if j.solo.try(w, expected) {
		seq, err := j.publishIf(ctx, js.ExpectedLastSeqHeader, j.subject(w), expected, data)
		if !errors.Is(err, journal.ErrConflict) {
			j.solo.stored(w, seq)
			return seq, err
		}
		j.solo.missed() // somebody else wrote; nothing was stored
	}
	seq, err := j.publish(ctx, j.subject(w), expected, data)
	j.solo.stored(w, seq)
	return seq, err
}

// publish stores data on a subject whose last message has sequence expected.
func (j *Journal) publish(ctx context.Context, subject string, expected journal.Seq, data []byte) (journal.Seq, error) {
	return j.publishIf(ctx, js.ExpectedLastSubjSeqHeader, subject, expected, data)
}

// publishIf stores data if what the header names has sequence expected.
func (j *Journal) publishIf(ctx context.Context, header, subject string, expected journal.Seq, data []byte) (journal.Seq, error) {
	connected, release := j.whileConnected(ctx)
	defer release()
	if !j.nc.IsConnected() {
		return 0, j.electing(unavailable("publish", errNotConnected))
	}
	m := &nats.Msg{
		Subject: subject,
		Header:  nats.Header{header: {strconv.FormatUint(uint64(expected), 10)}},
		Data:    data,
	}
	for pause := time.Millisecond; ; pause *= 2 {
		// No retries there: the caller's are better, because it knows what an outcome in doubt means.
		ack, err := j.js.PublishMsg(connected, m, js.WithRetryAttempts(0))
		switch {
		case err == nil:
			return journal.Seq(ack.Sequence), nil
		case !inProcess(err) || pause > maxInProcess || sleep(connected, pause) != nil:
			return 0, j.electing(publishError(connected, err))
		}
	}
}

// electing says of a replicated stream that it has no leader, where that is why it took nothing.
func (j *Journal) electing(err error) error {
	if !j.Replicated() || !errors.Is(err, journal.ErrUnavailable) || hasCode(err, codeServerExceeded, codeAccountExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", journal.ErrNoLeader, err)
}

// Replicated reports whether the stream of batches is on several servers, which elect one to lead it.
func (j *Journal) Replicated() bool {
	return j.batches != nil && j.batches.CachedInfo().Config.Replicas > 1
}

// maxInProcess bounds a pause for a message in process, and half of all of them.
const maxInProcess = 32 * time.Millisecond

// inProcess reports whether a replicated stream refused a message because it is not done with the one
// before on that subject. It may acknowledge a message a moment before it is done with it, so this does
// not mean that the sequence differs.
func inProcess(err error) bool {
	return hasCode(err, js.JSErrCodeStreamWrongLastSequenceConstant)
}

// Last returns the last message on w's subject by the word of the stream's leader, or journal.ErrNoMessage.
func (j *Journal) Last(ctx context.Context, w journal.WriterID) (journal.Message, error) {
	if err := j.guard.Trust(); err != nil {
		return journal.Message{}, unavailable("last batch", err)
	}
	connected, release := j.whileConnected(ctx)
	defer release()
	m, err := j.batches.GetLastMsgForSubject(connected, j.subject(w))
	if err != nil {
		return journal.Message{}, askError(ctx, "last batch", err)
	}
	return journal.Message{Seq: journal.Seq(m.Sequence), Time: journal.InstantOf(m.Time), Data: m.Data}, nil
}

// Bounds returns what the stream holds by the word of its leader.
func (j *Journal) Bounds(ctx context.Context) (journal.Bounds, error) {
	connected, release := j.whileConnected(ctx)
	defer release()
	info, asked, err := askInfo(connected, j.batches)
	if err != nil {
		return journal.Bounds{}, askError(ctx, "bounds", err)
	}
	j.clock.note(info.TimeStamp, asked, time.Now())
	b := journal.Bounds{First: journal.Seq(info.State.FirstSeq), Last: journal.Seq(info.State.LastSeq)}
	if info.State.Msgs == 0 {
		b.First = b.Last + 1
	}
	return b, nil
}

// Trim removes all batches before the given one, for ever.
func (j *Journal) Trim(ctx context.Context, before journal.Seq) error {
	if before <= 1 {
		return nil // to the server, zero means everything
	}
	connected, release := j.whileConnected(ctx)
	defer release()
	if err := j.batches.Purge(connected, js.WithPurgeSequence(uint64(before))); err != nil {
		return askError(ctx, "trim", err)
	}
	return nil
}

func (j *Journal) subject(w journal.WriterID) string { return j.prefix + ".batch." + w.String() }
