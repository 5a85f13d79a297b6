package jetstream

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

// metaRenewed is in a stream's metadata when it was made anew: since when.
const metaRenewed = "dormouse-renewed"

// Renew makes those streams of a journal anew that are gone, and opens it. Where only a stream's definition was damaged
// and its files are still in the server's store, its messages come back; otherwise it is empty. id names the journal,
// if neither stream is left to say it. Call it only for an operator who accepts that messages may be lost: look at
// Bounds, and verify. Errors: those of Open.
func Renew(ctx context.Context, nc *nats.Conn, o Options, id journal.ID) (*Journal, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	client, err := js.New(nc)
	if err != nil {
		return nil, fmt.Errorf("renew journal: %w", err)
	}
	j := &Journal{nc: nc, js: client, prefix: o.Prefix, guard: o.Guard, log: o.Logger}
	batches, keys, err := j.lookUpBoth(ctx, o)
	if err != nil {
		return nil, err
	}
	switch {
	case batches != nil:
		id = batches.id
	case keys != nil:
		id = keys.id
	case id == journal.ID{}:
		return nil, fmt.Errorf("%w: nothing says which one it was", ErrNoJournal)
	}
	if batches == nil {
		if err := j.renew(ctx, j.batchConfig(o), id); err != nil {
			return nil, err
		}
	}
	if keys == nil {
		if err := j.renew(ctx, j.keyConfig(o), id); err != nil {
			return nil, err
		}
	}
	o.Create = false
	return Open(ctx, nc, o)
}

// renew makes a stream, over what may be left of its files. The server keeps a damaged definition that it finds there,
// and would lose the stream again at its next start: an update writes it anew.
func (j *Journal) renew(ctx context.Context, want js.StreamConfig, id journal.ID) error {
	want.Metadata = map[string]string{metaJournal: id.String()}
	s, err := j.js.CreateStream(ctx, want)
	if err != nil {
		return askError(ctx, "create stream "+want.Name, err)
	}
	again := s.CachedInfo().Config
	again.Metadata = maps.Clone(again.Metadata)
	again.Metadata[metaRenewed] = time.Now().UTC().Format(time.RFC3339)
	if _, err := j.js.UpdateStream(ctx, again); err != nil {
		return askError(ctx, "update stream "+want.Name, err)
	}
	return nil
}

// Advance lets an empty stream go on behind the given message, which a snapshot holds. It does nothing if there are
// messages.
func (j *Journal) Advance(ctx context.Context, after journal.Seq) error {
	b, err := j.Bounds(ctx)
	if err != nil || b.First <= b.Last || b.Last >= after {
		return err
	}
	if err := j.batches.Purge(ctx, js.WithPurgeSequence(uint64(after)+1)); err != nil {
		return askError(ctx, "advance", err)
	}
	return nil
}
