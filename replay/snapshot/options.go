package snapshot

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Table is the folded state that snapshots are taken of. *replay.Follower implements it.
type Table interface {
	Freeze() *replay.Frozen
	View(fn func(*replay.State))
}

// Stream is the stream of batches, as far as trimming it goes.
type Stream interface {
	replay.Source
	// Trim removes all messages before the given one, for ever.
	Trim(ctx context.Context, before journal.Seq) error
}

// Observer is told what a Keeper does. Its methods must not block.
type Observer interface {
	SnapshotTaken(r Report)
	SnapshotFailed(err error)
	StreamTrimmed(before journal.Seq)
}

// KeeperOptions configures a Keeper.
type KeeperOptions struct {
	Store  Store
	Sealer Sealer
	Table  Table
	Stream Stream

	// A snapshot is due after so many events, so many messages, or so long a time if anything has changed; whichever is
	// first. 0 means 100,000, 20,000 and 10 minutes; a negative one means never.
	EveryEvents   int
	EveryMessages int
	EveryTime     time.Duration

	// CheckEvery is how often it is looked whether one is due; 0 means 5 s.
	CheckEvery time.Duration

	// Abandoned is how long nothing may be stored of an incomplete snapshot until its taker counts as dead; 0 means
	// 10 minutes.
	Abandoned time.Duration

	// Retention is how long batches are kept, in journal time, although snapshots hold what they led to. 0 = for ever.
	Retention time.Duration

	// Now is the taker's clock; nil means time.Now.
	Now func() time.Time

	Logger   zerolog.Logger
	Observer Observer // nil = none
}

func (o *KeeperOptions) fill() error {
	if o.Store == nil || o.Sealer == nil || o.Table == nil || o.Stream == nil {
		return errors.New("snapshots: a store, a sealer, a table and a stream are needed")
	}
	if o.CheckEvery < 0 || o.Abandoned < 0 || o.Retention < 0 {
		return errors.New("snapshots: negative option")
	}
	fill(&o.EveryEvents, 100_000)
	fill(&o.EveryMessages, 20_000)
	fill(&o.EveryTime, 10*time.Minute)
	fill(&o.CheckEvery, 5*time.Second)
	fill(&o.Abandoned, 10*time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observer == nil {
		o.Observer = silent{}
	}
	return nil
}

func fill[T ~int | ~int64](v *T, standard T) {
	if *v == 0 {
		*v = standard
	}
}

type silent struct{}

func (silent) SnapshotTaken(Report)      {}
func (silent) SnapshotFailed(error)      {}
func (silent) StreamTrimmed(journal.Seq) {}
