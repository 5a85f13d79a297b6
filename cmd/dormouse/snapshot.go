package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
	"github.com/dormouse-mcp/dormouse/journal"
)

type snapshotCmd struct {
	storeFlags
	jsonFlag
}

// Help implements kong.HelpProvider.
func (*snapshotCmd) Help() string {
	return `A running daemon takes snapshots by itself, so that a restart folds only what followed. This takes one at once, reads it again, and keeps the newest two. It works beside a running daemon as well as on a stopped one's folder, and holds up no request.

Example:

    dormouse snapshot`
}

// Run takes a snapshot.
func (c *snapshotCmd) Run(ctx context.Context, s console.Streams) error {
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	x, err := client.Snapshot(ctx)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, x)
	}
	took := func(ms float64) string { return console.Short(time.Duration(ms * float64(time.Millisecond))) }
	console.Fields(s.Out, [][2]string{
		{"snapshot", x.ID},
		{"position", fmt.Sprintf("%d, journal time %s", x.Seq, console.Stamp(x.Time, time.Now()))},
		{"sessions", fmt.Sprint(x.Sessions)},
		{"size", fmt.Sprintf("%d bytes in %s", x.Bytes, views.Plural(x.Chunks, "chunk"))},
		{"took", fmt.Sprintf("%s until durable, %s until read again and found right; the fold was held up for %s", took(x.WroteMS), took(x.VerifiedMS), took(x.FrozeMS))},
	})
	return nil
}

type replayCmd struct {
	storeFlags
	jsonFlag
	At  string      `help:"Journal time: 2006-01-02T15:04:05Z, '2006-01-02 15:04', 15:04, or how long ago (10m)." placeholder:"TIME"`
	Seq journal.Seq `help:"Sequence of the batch after which to look." placeholder:"N"`
}

// Help implements kong.HelpProvider.
func (*replayCmd) Help() string {
	return `Folds the journal from the nearest snapshot before that point and shows the sessions exactly as they were. Ages and states are those of then. How far back it reaches is --retention's matter.

Examples:

    dormouse replay --at 14:05
    dormouse replay --at '2026-11-17 14:05' --json
    dormouse replay --seq 48211`
}

// Run shows former sessions.
func (c *replayCmd) Run(ctx context.Context, s console.Streams) error {
	if (c.At == "") == (c.Seq == 0) {
		return console.Usage(errors.New("want either --at TIME or --seq N"), "see `dormouse replay --help`")
	}
	var at time.Time
	if c.At != "" {
		var err error
		if at, err = config.ParseTime(c.At, time.Now()); err != nil {
			return console.Usage(fmt.Errorf("--at: %w", err), "")
		}
	}
	client, done, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	then, err := client.At(ctx, c.Seq, at)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return console.JSON(s.Out, then)
	}
	views.SessionsAt(s, then.Sessions, then.Time)
	fmt.Fprintf(s.Err, "as they were after message %d, %s\n", then.Seq, console.Stamp(then.Time, time.Now()))
	return nil
}
