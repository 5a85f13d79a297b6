package jetstream

import (
	"context"
	"errors"
	"strconv"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

var errNotConnected = errors.New("not connected to NATS")

// Publish stores data as the next message on w's subject. See commit.Port.
func (j *Journal) Publish(ctx context.Context, w journal.WriterID, expected journal.Seq, data []byte) (journal.Seq, error) {
	seq, err := j.publish(ctx, j.subject(w), expected, data)
	return seq, err
}

// publish stores data on a subject whose last message has sequence expected.
func (j *Journal) publish(ctx context.Context, subject string, expected journal.Seq, data []byte) (journal.Seq, error) {
	if !j.nc.IsConnected() {
		return 0, unavailable("publish", errNotConnected)
	}
	m := &nats.Msg{
		Subject: subject,
		Header:  nats.Header{js.ExpectedLastSubjSeqHeader: {strconv.FormatUint(uint64(expected), 10)}},
		Data:    data,
	}
	// No retries here: the caller's are better, because it knows what an outcome in doubt means.
	ack, err := j.js.PublishMsg(ctx, m, js.WithRetryAttempts(0))
	if err != nil {
		return 0, publishError(ctx, err)
	}
	return journal.Seq(ack.Sequence), nil
}

// Last returns the last message on w's subject by the word of the stream's leader, or journal.ErrNoMessage.
func (j *Journal) Last(ctx context.Context, w journal.WriterID) (journal.Message, error) {
	m, err := j.batches.GetLastMsgForSubject(ctx, j.subject(w))
	if err != nil {
		return journal.Message{}, askError(ctx, "last batch", err)
	}
	return journal.Message{Seq: journal.Seq(m.Sequence), Time: journal.InstantOf(m.Time), Data: m.Data}, nil
}

// Bounds returns what the stream holds by the word of its leader.
func (j *Journal) Bounds(ctx context.Context) (journal.Bounds, error) {
	info, err := j.batches.Info(ctx)
	if err != nil {
		return journal.Bounds{}, askError(ctx, "bounds", err)
	}
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
	if err := j.batches.Purge(ctx, js.WithPurgeSequence(uint64(before))); err != nil {
		return askError(ctx, "trim", err)
	}
	return nil
}

func (j *Journal) subject(w journal.WriterID) string { return j.prefix + ".batch." + w.String() }
