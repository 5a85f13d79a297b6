package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// poolSize is how many events are made before the rounds, for the ways that measure the journal alone.
const poolSize = 4096

// dormouse is what the three ways of Dormouse share: a journal with a real committer and batch sealer.
type dormouse struct {
	inProcess

	journal   *jetstream.Journal
	keys      *seal.Keyring
	minter    *minter
	committer *commit.Committer
}

// inProcess is a way that no other process serves and that leaves nothing behind.
type inProcess struct{}

func (inProcess) cpu() time.Duration           { return 0 }
func (inProcess) settle(context.Context) error { return nil }

func openDormouse(ctx context.Context, s *scratch, prefix string, basis func() journal.Basis) (*dormouse, error) {
	d := &dormouse{keys: seal.GenerateKeyring()}
	var err error
	if d.journal, err = s.journal(ctx, prefix); err != nil {
		return nil, err
	}
	if d.minter, err = newMinter(ctx, d.keys, d.journal.Keys()); err != nil {
		return nil, err
	}
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(d.keys, w)
	if err != nil {
		return nil, err
	}
	keep := 0 // the default
	if basis == nil {
		keep = -1 // for a follower, which is not there
	}
	d.committer, err = commit.New(commit.Options{ //nolint:contextcheck // it outlives the call and is closed
		Port: d.journal, Encoder: sealer, Journal: d.journal.ID(), Writer: w, Basis: basis, KeepBatches: keep,
	})
	return d, err
}

func (d *dormouse) close(ctx context.Context) error { return d.committer.Close(ctx) }

// pool returns created events with an old time: the committer does not care.
func (d *dormouse) pool(ctx context.Context) ([]journal.Event, error) {
	at := journal.InstantOf(time.Now())
	events := make([]journal.Event, poolSize)
	for i := range events {
		var err error
		if events[i], err = d.minter.created(ctx, i, at); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// created appends sessions whose ID and context were sealed before.
type created struct {
	*dormouse

	events []journal.Event
	next   atomic.Int64
}

func openCreated(ctx context.Context, s *scratch, _ int) (appender, error) {
	d, err := openDormouse(ctx, s, "created", nil)
	if err != nil {
		return nil, err
	}
	events, err := d.pool(ctx)
	return &created{dormouse: d, events: events}, errors.Join(err, closeOn(ctx, err, d))
}

func (c *created) append(ctx context.Context, _ int) (int, error) {
	_, err := c.committer.Append(ctx, c.events[c.next.Add(1)%poolSize])
	return 1, err
}

// mixed posts nine accesses for each session that it creates, and waits for the session alone.
type mixed struct{ created }

func openMixed(ctx context.Context, s *scratch, _ int) (appender, error) {
	d, err := openDormouse(ctx, s, "mixed", nil)
	if err != nil {
		return nil, err
	}
	events, err := d.pool(ctx)
	return &mixed{created{dormouse: d, events: events}}, errors.Join(err, closeOn(ctx, err, d))
}

func (m *mixed) append(ctx context.Context, caller int) (int, error) {
	n := int(m.next.Add(mixedPart - 1))
	for i := range mixedPart - 1 {
		e := &m.events[(n+i)%poolSize]
		m.committer.Post(access(e.Ref, n+i, e.At))
	}
	if _, err := m.created.append(ctx, caller); err != nil {
		return 0, err
	}
	return mixedPart, nil
}

func (m *mixed) settle(ctx context.Context) error { return m.committer.Flush(ctx) }

// whole is what a gateway does when a session begins: a new ID, ID and context sealed by the vault, the
// event appended, and folded by a follower of the same process.
type whole struct {
	*dormouse

	follower *replay.Follower
	next     atomic.Int64
}

func openWhole(ctx context.Context, s *scratch, _ int) (appender, error) {
	w := new(whole)
	d, err := openDormouse(ctx, s, "whole", func() journal.Basis { return w.follower.Basis() })
	if err != nil {
		return nil, err
	}
	w.dormouse = d
	w.follower, err = replay.Follow(ctx, replay.FollowOptions{
		Source: d.journal, Opener: seal.NewBatchOpener(d.keys), Journal: d.journal.ID(), Own: d.committer.Recent,
	})
	return w, errors.Join(err, closeOn(ctx, err, d))
}

func (w *whole) append(ctx context.Context, _ int) (int, error) {
	e, err := w.minter.created(ctx, int(w.next.Add(1)), journal.InstantOf(time.Now()))
	if err != nil {
		return 0, err
	}
	at, err := w.committer.Append(ctx, e)
	if err != nil {
		return 0, err
	}
	return 1, w.follower.WaitFor(ctx, at.Seq)
}

func (w *whole) close(ctx context.Context) error {
	return errors.Join(w.dormouse.close(ctx), w.follower.Close())
}

// closeOn closes what was opened if something after it failed.
func closeOn(ctx context.Context, err error, c interface{ close(context.Context) error }) error {
	if err == nil {
		return nil
	}
	return c.close(ctx)
}
