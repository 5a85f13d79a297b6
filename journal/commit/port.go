package commit

import (
	"context"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Port is all that a committer needs of a stream. journal/jetstream and journal/memory implement it;
// journal/journaltest holds the laws that both obey. Safe for concurrent use.
type Port interface {
	// Publish stores data as the next message on w's subject, provided that the last message there has
	// sequence expected (zero: there is none), and returns once it is durable. It does not keep data.
	//
	// Errors: journal.ErrConflict (the last one differs; nothing stored), journal.ErrUnavailable (surely
	// nothing stored). After any other error, a timeout above all, data may or may not be stored, now
	// or in a moment.
	Publish(ctx context.Context, w journal.WriterID, expected journal.Seq, data []byte) (journal.Seq, error)

	// Last returns the last message on w's subject by the word of the stream's leader, or
	// journal.ErrNoMessage.
	Last(ctx context.Context, w journal.WriterID) (journal.Message, error)

	// Bounds returns what the stream holds by the word of its leader.
	Bounds(ctx context.Context) (journal.Bounds, error)

	// Patience is for how long what Last, Bounds and a conflict tell may be the word of a leader that was deposed, or
	// does not know everything yet. Zero, on a stream of one server: never.
	Patience() time.Duration
}

// Encoder turns a frozen batch into the message to store. It sets the header's Key, First, Last, Count
// and Refs. *seal.BatchSealer implements it. The committer never calls it concurrently.
type Encoder interface {
	Encode(h *journal.Header, events []journal.Event) ([]byte, error)
}

// Recycler is an Encoder that uses the memory of messages again once they are stored.
type Recycler interface {
	Encoder

	// Recycle gives back what Encode returned. Nobody reads it any more.
	Recycle(data []byte)
}
