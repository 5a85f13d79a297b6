package jetstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	// metaRenewed is in a stream's metadata when it was made anew: since when.
	metaRenewed = "dormouse-made-anew"
	// metaWritten is there so that there is something to update.
	metaWritten = "dormouse-written"
)

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
		if err := j.renew(ctx, j.batchConfig(o), id, true); err != nil {
			return nil, err
		}
	}
	if keys == nil {
		if err := j.renew(ctx, j.keyConfig(o), id, true); err != nil {
			return nil, err
		}
	}
	o.Create = false
	return Open(ctx, nc, o)
}

// renew makes a stream, over what may be left of its files. The server keeps a damaged definition that it finds there,
// and would lose the stream again at its next start: an update writes it anew. There says that the stream was there
// before; messages that come back say so too.
func (j *Journal) renew(ctx context.Context, want js.StreamConfig, id journal.ID, there bool) error {
	want.Metadata = map[string]string{metaJournal: id.String()}
	s, err := j.create(ctx, want)
	if err != nil {
		return askError(ctx, "create stream "+want.Name, err)
	}
	again := s.CachedInfo().Config
	again.Metadata = maps.Clone(again.Metadata)
	again.Metadata[metaWritten] = time.Now().UTC().Format(time.RFC3339)
	if there || s.CachedInfo().State.LastSeq > 0 {
		again.Metadata[metaRenewed] = again.Metadata[metaWritten]
	}
	if _, err := j.change(ctx, again, j.js.UpdateStream); err != nil {
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

// Renewal says that a stream was made anew over what was left of its files.
type Renewal struct {
	Stream string
	When   time.Time // to the second
}

func (r Renewal) String() string {
	return fmt.Sprintf("stream %s was gone, and was made anew over what was left of its files at %s", r.Stream, r.When.UTC().Format(time.RFC3339))
}

// Renewals returns the journal's streams that were made anew since they were made first. Errors: journal.ErrUnavailable,
// the cause of ctx.
func (j *Journal) Renewals(ctx context.Context) (list []Renewal, err error) {
	for _, name := range []string{"BATCHES", "KEYS", "MARKS", "SNAPSHOTS"} {
		name = strings.ToUpper(j.prefix) + "_" + name
		s, err := j.js.Stream(ctx, name)
		if errors.Is(err, js.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, askError(ctx, "look at stream "+name, err)
		}
		if when, err := time.Parse(time.RFC3339, s.CachedInfo().Config.Metadata[metaRenewed]); err == nil {
			list = append(list, Renewal{Stream: name, When: when})
		}
	}
	return list, nil
}
