package replay

import (
	"context"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Source is where batches are read from. Safe for concurrent use.
type Source interface {
	// Bounds returns what the stream holds by the word of its leader.
	Bounds(ctx context.Context) (journal.Bounds, error)
	// Patience is for how long a leader's word may be an old one, since it was deposed or does not know everything
	// yet. Zero, on a stream of one server: never.
	Patience() time.Duration
	// Read calls fn with every message whose sequence is greater than after, in order, and goes on as
	// new ones arrive, until ctx ends (its cause is returned) or fn returns an error (returned as it is;
	// journal.ErrStop gives nil). A message that should be there and is not ends it with a
	// *journal.GapError. It survives reconnects.
	Read(ctx context.Context, after journal.Seq, fn func(journal.Message) error) error
}

// Opener opens sealed batches. *seal.BatchOpener implements it. Safe for concurrent use.
type Opener interface {
	Open(data []byte) (*journal.Batch, error)
}
