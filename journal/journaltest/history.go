package journaltest

import (
	"context"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Stream is what a reader needs of a journal; it is replay.Source.
type Stream interface {
	Bounds(ctx context.Context) (journal.Bounds, error)
	Read(ctx context.Context, after journal.Seq, fn func(journal.Message) error) error
}

// Opener opens stored batches; it is replay.Opener.
type Opener interface {
	Open(data []byte) (*journal.Batch, error)
}

// ReadAll returns every message after the given one, up to the last that the stream holds at the call.
func ReadAll(ctx context.Context, s Stream, after journal.Seq) ([]journal.Message, error) {
	bounds, err := s.Bounds(ctx)
	if err != nil {
		return nil, err
	}
	var all []journal.Message
	if bounds.Last <= after {
		return nil, nil
	}
	err = s.Read(ctx, after, func(m journal.Message) error {
		all = append(all, m)
		if m.Seq >= bounds.Last {
			return journal.ErrStop
		}
		return nil
	})
	return all, err
}

// History is a whole stream, opened and checked.
type History struct {
	Batches []*journal.Batch // Batches[i] has sequence i+1
	Events  map[journal.Position]journal.Event
}

// ReadHistory reads a whole stream and checks it; see CheckHistory.
func ReadHistory(ctx context.Context, s Stream, op Opener, id journal.ID) (*History, error) {
	messages, err := ReadAll(ctx, s, 0)
	if err != nil {
		return nil, err
	}
	return CheckHistory(messages, op, id)
}

// CheckHistory opens all messages of a stream and checks the laws of a writer's chain: numbers count up
// from 1, each batch carries the digest of the one before, all carry the journal's ID, and headers tell the
// truth about what is inside.
func CheckHistory(messages []journal.Message, op Opener, id journal.ID) (*History, error) {
	h := &History{Events: make(map[journal.Position]journal.Event)}
	type link struct {
		number uint64
		digest journal.Digest
	}
	chain := make(map[journal.WriterID]link)
	for _, m := range messages {
		b, err := op.Open(m.Data)
		if err != nil {
			return nil, fmt.Errorf("batch %d: %w", m.Seq, err)
		}
		before := chain[b.Writer]
		switch {
		case b.Journal != id:
			return nil, fmt.Errorf("batch %d is of another journal", m.Seq)
		case b.Number != before.number+1:
			return nil, fmt.Errorf("batch %d has number %d after %d", m.Seq, b.Number, before.number)
		case b.Previous != before.digest:
			return nil, fmt.Errorf("batch %d does not follow on the one before", m.Seq)
		case int(b.Count) != len(b.Events) || len(b.Events) == 0:
			return nil, fmt.Errorf("batch %d counts %d events and holds %d", m.Seq, b.Count, len(b.Events))
		}
		chain[b.Writer] = link{number: b.Number, digest: journal.DigestOf(m.Data)}
		h.Batches = append(h.Batches, b)
		for i, e := range b.Events {
			h.Events[journal.Position{Seq: m.Seq, Index: uint32(i)}] = e
		}
	}
	return h, nil
}
