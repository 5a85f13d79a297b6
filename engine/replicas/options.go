package replicas

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
)

// DefaultFence is Options.Fence where none is given: NATS needs four to nine seconds to elect another leader, which is to
// end no call.
const DefaultFence = 10 * time.Second

// Options configures a Directory. Self, Boot, Key, Wire, CatchUp and Folded must be set.
type Options struct {
	Self    journal.ReplicaID
	Boot    string // names this run, unlike all others
	Version string
	URL     string // where other replicas reach this one; empty = they do not
	Key     []byte // authenticates messages; the same on every replica

	Wire Wire
	// CatchUp returns once everything is folded that the stream's leader named after the call.
	CatchUp func(ctx context.Context) error
	// Folded tells how far that is.
	Folded func() (seq journal.Seq, events uint64)

	// Fence is how long this replica goes on serving local runtimes without a word from the stream; 0 = DefaultFence.
	// All replicas should have the same.
	Fence time.Duration

	// Fenced is called when this replica may no longer serve, and must return at once; nil = nobody cares.
	Fenced func()
	// Stuck is called when the stream has not answered for Fence, and again each time that as much has gone by: another
	// of its servers may answer. The stream is asked again once it has returned; nil = there is nothing to be done.
	Stuck func()
	// Taken is called when another replica has this one's name; nil = nobody cares.
	Taken func(error)

	Logger zerolog.Logger
}

func (o *Options) complete() error {
	if o.Self == "" || o.Boot == "" || len(o.Key) == 0 || o.Wire == nil || o.CatchUp == nil || o.Folded == nil {
		return errors.New("replicas: Self, Boot, Key, Wire, CatchUp and Folded must be set")
	}
	if o.Fence < 0 {
		return errors.New("replicas: negative fence")
	}
	if o.Fence == 0 {
		o.Fence = DefaultFence
	}
	if o.Fenced == nil {
		o.Fenced = func() {}
	}
	if o.Stuck == nil {
		o.Stuck = func() {}
	}
	if o.Taken == nil {
		o.Taken = func(error) {}
	}
	return nil
}

// every is the time between two messages.
func (o *Options) every() time.Duration { return min(o.Fence/5, time.Second) }

// silence is after how long unheard a replica is suspected.
func (o *Options) silence() time.Duration { return o.Fence * 3 / 5 }

// gap is after how long without an answer this replica is itself out of contact: then nobody's silence means anything.
func (o *Options) gap() time.Duration { return 2 * o.every() }

// settle is how long after a claim its winner serves at the latest.
func (o *Options) settle() time.Duration { return o.Fence * 11 / 10 }
