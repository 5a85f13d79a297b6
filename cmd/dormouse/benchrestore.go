package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/bench"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
)

type benchRestoreCmd struct {
	jsonFlag
	Sessions int `help:"Dormant sessions, each with a 200-byte context." default:"1000000"`
	Rounds   int `help:"Measured rounds, after one that warms up." default:"5"`

	Node string `help:"Folder whose node_modules has n8n-mcp, whose own restore is then measured, too." default:".ci/e2e" placeholder:"DIR"`
}

// Run measures and prints a table of medians.
func (c *benchRestoreCmd) Run(ctx context.Context, s console.Streams) error {
	if err := counts(c.Rounds, c.Sessions); err != nil {
		return err
	}
	r, err := bench.Restore(ctx, bench.RestoreOptions{Sessions: c.Sessions, Rounds: c.Rounds, Node: c.Node, Step: step(s)})
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, r)
	}
	var cells [][]string
	for _, x := range r.Rows {
		cells = append(cells, []string{
			x.Way, x.Took.Round(time.Millisecond).String(), x.CPU.Round(time.Millisecond).String(),
			fmt.Sprintf("%.0f", x.PerSecond), fmt.Sprintf("%.2f", x.OfChunks),
		})
	}
	console.Table(s.Out, []string{"way", "took", "cpu", "sessions/s", "÷ bare read"}, cells, 2, 3, 4, 5)
	cells = nil
	for _, x := range r.Imports {
		cells = append(cells, []string{x.Way, x.Took.Round(time.Millisecond).String(), fmt.Sprintf("%.0f", x.PerSecond)})
	}
	console.Table(s.Out, []string{fmt.Sprintf("export of %d brought in by", bench.ImportSessions), "took", "sessions/s"}, cells, 2, 3)
	console.Fields(s.Out, [][2]string{
		{"sessions", fmt.Sprint(r.Sessions)},
		{"snapshot", fmt.Sprintf("%d bytes, %.0f a session", r.Bytes, float64(r.Bytes)/float64(r.Sessions))},
		{"heap", fmt.Sprintf("%.0f bytes a restored session, all tables included", r.Heap)},
		{"freeze", console.Short(r.Froze)},
		{"fold of 100 accesses", quantiles(r.Fold)},
		{"... while a snapshot is taken", quantiles(r.During)},
		{"request over HTTP", quantiles(r.Beside.Alone)},
		{fmt.Sprintf("... while %d snapshots are taken", r.Beside.Snapshots), quantiles(r.Beside.During)},
	})
	return nil
}

func quantiles(s bench.Sample) string {
	return fmt.Sprintf("p50 %s, p99 %s, longest %s", console.Short(s.P50), console.Short(s.P99), console.Short(s.Longest))
}
