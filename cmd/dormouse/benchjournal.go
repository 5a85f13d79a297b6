package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/bench"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
)

type benchAppendCmd struct {
	jsonFlag
	Callers  []int           `help:"Numbers of concurrent callers." default:"512,64,1"`
	Sync     []string        `help:"When the store is synced: always (before each acknowledgement), default (every two minutes)." enum:"always,default" default:"always,default"`
	Rounds   int             `help:"Measured rounds for each cell, after one that warms up." default:"5"`
	RoundFor config.Duration `help:"How long a round lasts." default:"1s" placeholder:"DURATION"`
}

// Run measures and prints a table of medians.
func (c *benchAppendCmd) Run(ctx context.Context, s console.Streams) error {
	if err := errors.Join(positive("round-for", c.RoundFor), counts(c.Rounds, c.Callers...)); err != nil {
		return err
	}
	rows, err := bench.Append(ctx, bench.AppendOptions{
		Callers: c.Callers, Sync: c.Sync, Rounds: c.Rounds, RoundFor: c.RoundFor.Std(), Step: step(s),
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, rows)
	}
	var cells [][]string
	for _, r := range rows {
		if r.Note != "" {
			cells = append(cells, []string{r.Sync, fmt.Sprint(r.Callers), r.Way, r.Note})
			continue
		}
		cells = append(cells, []string{
			r.Sync, fmt.Sprint(r.Callers), r.Way, fmt.Sprintf("%.0f", r.PerSecond), micros(r.P50), micros(r.P99),
			fmt.Sprintf("%.1f", micro(r.CPU)), fmt.Sprintf("%.2f", r.OfMessage), fmt.Sprintf("%.2f", r.OfBare), fmt.Sprintf("%.2f", r.P50Ratio),
		})
	}
	console.Table(s.Out, []string{
		"sync", "callers", "way", "events/s", "p50 us", "p99 us", "cpu us/event", "÷ one message", "÷ bare", "p50 ÷ one message",
	}, cells, 2, 4, 5, 6, 7, 8, 9, 10)
	return nil
}

type benchReplayCmd struct {
	jsonFlag
	Events int   `help:"Events in each journal." default:"1000000"`
	Batch  []int `help:"Events in a batch." default:"500,100"`
	Rounds int   `help:"Measured rounds for each cell, after one that warms up." default:"5"`
}

// Run measures and prints a table of medians.
func (c *benchReplayCmd) Run(ctx context.Context, s console.Streams) error {
	if err := counts(c.Rounds, append(c.Batch, c.Events)...); err != nil {
		return err
	}
	rows, err := bench.Replay(ctx, bench.ReplayOptions{Events: c.Events, Batch: c.Batch, Rounds: c.Rounds, Step: step(s)})
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, rows)
	}
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{
			r.Load, fmt.Sprint(r.Batch), r.Way, fmt.Sprint(r.Events), r.Took.Round(time.Millisecond).String(), fmt.Sprintf("%.0f", r.PerSecond),
			fmt.Sprintf("%.2f", micro(r.CPU)), fmt.Sprintf("%.0f", r.Bytes), fmt.Sprintf("%.1f", r.OfJSON),
		})
	}
	console.Table(s.Out, []string{
		"load", "batch", "way", "events", "took", "events/s", "cpu us/event", "bytes/event", "÷ json",
	}, cells, 2, 4, 5, 6, 7, 8, 9)
	return nil
}

type benchFindCmd struct {
	jsonFlag
	Events int             `help:"Events in the journal, one a millisecond." default:"5000000"`
	Batch  int             `help:"Events in a batch." default:"500"`
	Range  config.Duration `help:"Length of the time range that is wanted." default:"10s" placeholder:"DURATION"`
	Rounds int             `help:"Measured rounds for each cell, after one that warms up." default:"5"`
}

// Run measures and prints a table of medians.
func (c *benchFindCmd) Run(ctx context.Context, s console.Streams) error {
	if err := errors.Join(positive("range", c.Range), counts(c.Rounds, c.Events, c.Batch)); err != nil {
		return err
	}
	rows, err := bench.Find(ctx, bench.FindOptions{
		Events: c.Events, Batch: c.Batch, Range: c.Range.Std(), Rounds: c.Rounds, Step: step(s),
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, rows)
	}
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{
			r.Wanted, r.Way, fmt.Sprint(r.Found), fmt.Sprintf("%d of %d", r.Opened, r.Batches),
			r.Took.Round(time.Millisecond).String(), r.CPU.Round(time.Millisecond).String(), fmt.Sprintf("%.1f", r.Saved),
		})
	}
	console.Table(s.Out, []string{
		"wanted", "way", "found", "batches opened", "took", "cpu", "times faster",
	}, cells, 3, 4, 5, 6, 7)
	return nil
}

func micro(d time.Duration) float64 { return float64(d) / 1e3 }

// counts refuses numbers below one.
func counts(rounds int, others ...int) error {
	for _, n := range append(others, rounds) {
		if n < 1 {
			return console.Usage(fmt.Errorf("%d is below 1", n), "give a number from 1 on")
		}
	}
	return nil
}
