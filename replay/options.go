package replay

import (
	"errors"
	"runtime"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// FollowOptions configures a Follower.
type FollowOptions struct {
	Source Source
	Opener Opener

	// Journal, if not zero, is the journal that must be followed: a batch of another one is damage.
	// Zero takes the first batch's word.
	Journal journal.ID

	// State, if not nil, is where to go on: what a snapshot held. The follower owns it from then on.
	// Nil begins before the first batch.
	State *State

	// Losses are the accepted losses, all of them. What they name as lost is passed over; anything else that is
	// missing is an error.
	Losses []journal.Loss

	// Marks are what replicas had folded once: a stream that ends before the highest of them, or whose history is
	// another one there, is damaged.
	Marks []journal.Mark

	// Own, if not nil, gives the events of a batch that this process wrote itself, so that they need not
	// be opened again. It is asked at the tail only. *commit.Committer's Recent fits.
	Own func(w journal.WriterID, number uint64, digest journal.Digest) ([]journal.Event, bool)

	// Seen, if not nil, is told of each batch that was folded after the restore, in order. It must be quick and keep
	// nothing of it.
	Seen func(b *journal.Batch)

	// Progress, if not nil, is called during the restore, at most every 100 ms, and once at its end.
	// Never concurrently. It must not block.
	Progress func(Progress)

	// Workers is how many batches are opened at once during the restore; 0 means one for each processor.
	Workers int

	// QueryTimeout bounds one question to the stream's leader in CatchUp; 0 means 5 s.
	QueryTimeout time.Duration

	// QueryEvery is the least time between the starts of two such questions; 0 means 2 ms. Calls that
	// come meanwhile share the next one.
	QueryEvery time.Duration
}

func (o FollowOptions) withDefaults() (FollowOptions, error) {
	switch {
	case o.Source == nil:
		return o, errors.New("follow: no source")
	case o.Opener == nil:
		return o, errors.New("follow: no opener")
	case o.Workers < 0 || o.QueryTimeout < 0 || o.QueryEvery < 0:
		return o, errors.New("follow: negative option")
	}
	if o.State == nil {
		o.State = NewState()
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.QueryTimeout == 0 {
		o.QueryTimeout = 5 * time.Second
	}
	if o.QueryEvery == 0 {
		o.QueryEvery = 2 * time.Millisecond
	}
	return o, nil
}

// Progress tells how far a follower has folded.
type Progress struct {
	Ready    bool        // the restore is done
	Seq      journal.Seq // folded
	Target   journal.Seq // the stream's last sequence when the restore began, or later
	Events   uint64
	Sessions int
	Elapsed  time.Duration // since Follow was called; after the restore, how long that took
}
