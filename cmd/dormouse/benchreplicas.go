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

type benchReplicasCmd struct {
	jsonFlag
	Parts    []string        `help:"What to measure: takeover, append, lag, fresh, forward." enum:"takeover,append,lag,fresh,forward" default:"takeover,append,lag,fresh,forward"`
	Kills    int             `help:"How often a replica is killed, and stopped, in each way." default:"5"`
	Pauses   int             `help:"How often one is made to stand still, at most; each takes some seconds." default:"1"`
	Members  int             `help:"How often a replica goes that is one of a cluster of embedded servers, in each way; each may take some seconds." default:"3"`
	Owned    int             `help:"Sessions that it serves then." default:"8"`
	Callers  []int           `help:"Numbers of concurrent callers of appends; the lag is measured with the first." default:"512,64,1"`
	LagFor   config.Duration `help:"How long a standby is watched under each load." default:"3s" placeholder:"DURATION"`
	Sessions int             `help:"Sessions that a fresh replica must know." default:"100000"`
	Conns    []int           `help:"Numbers of concurrent clients whose calls are forwarded." default:"1,16"`
	Rounds   int             `help:"Measured rounds for each cell, after one that warms up; starts of fresh replicas." default:"3"`
	RoundFor config.Duration `help:"How long a round lasts." default:"400ms" placeholder:"DURATION"`
}

// Run measures and prints a table for each part.
func (c *benchReplicasCmd) Run(ctx context.Context, s console.Streams) error {
	numbers := append([]int{c.Kills, c.Owned, c.Sessions}, append(c.Callers, c.Conns...)...)
	if err := errors.Join(positive("round-for", c.RoundFor), positive("lag-for", c.LagFor), counts(c.Rounds, numbers...)); err != nil {
		return err
	}
	if len(c.Callers) == 0 {
		return console.Usage(errors.New("--callers names no number"), "leave it out for the default")
	}
	r, err := bench.Replicas(ctx, bench.ReplicasOptions{
		Parts: c.Parts, Kills: c.Kills, Pauses: c.Pauses, Members: c.Members, Owned: c.Owned, Callers: c.Callers, LagFor: c.LagFor.Std(),
		Sessions: c.Sessions, Conns: c.Conns, Rounds: c.Rounds, RoundFor: c.RoundFor.Std(), Step: step(s),
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, r)
	}
	takeOverTable(s, r.TakeOver)
	sharedTable(s, r.Append)
	lagTable(s, r.Lag)
	freshTable(s, r.Fresh)
	forwardTable(s, r.Forward)
	return nil
}

func takeOverTable(s console.Streams, rows []bench.TakeOverRow) {
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{
			r.Way, fmt.Sprint(r.Rounds), fmt.Sprint(r.Sessions), console.Short(r.P50), console.Short(r.P99), console.Short(r.Longest), fmt.Sprint(r.Failed),
		})
	}
	table(s, []string{"take-over", "times", "sessions", "p50", "p99", "longest", "failed calls"}, cells, 2, 3, 4, 5, 6, 7)
}

func sharedTable(s console.Streams, rows []bench.SharedRow) {
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{
			fmt.Sprint(r.Callers), r.Place, r.Way, fmt.Sprintf("%.0f", r.PerSecond), micros(r.P50), micros(r.P99), fmt.Sprintf("%.1f", micro(r.CPU)),
			fmt.Sprintf("%.2f", r.OfBare), fmt.Sprintf("%.2f", r.OfMessage), fmt.Sprintf("%.2f", r.OfEmbedded), fmt.Sprintf("%.2f", r.P50Ratio),
		})
	}
	table(s, []string{
		"callers", "stream", "way", "events/s", "p50 us", "p99 us", "cpu us/event", "÷ bare", "÷ one message", "÷ embedded", "p50 ÷ embedded",
	}, cells, 1, 4, 5, 6, 7, 8, 9, 10, 11)
}

func lagTable(s console.Streams, rows []bench.LagRow) {
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{
			r.Load, fmt.Sprint(r.Callers), fmt.Sprintf("%.0f", r.PerSecond), fmt.Sprint(r.Samples),
			fmt.Sprintf("%d / %d / %d", r.Events.P50, r.Events.P99, r.Events.Most),
			fmt.Sprintf("%s / %s / %s", console.Short(r.P50), console.Short(r.P99), console.Short(r.Longest)),
			console.Short(r.Told), console.Short(r.CaughtUp),
		})
	}
	table(s, []string{
		"load", "callers", "events/s", "samples", "events behind: p50 / p99 / most", "time behind: p50 / p99 / longest", "told, longest", "caught up after",
	}, cells, 2, 3, 4, 7, 8)
}

func freshTable(s console.Streams, rows []bench.FreshRow) {
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{
			r.Way, fmt.Sprint(r.Sessions), r.Took.Round(time.Millisecond).String(), r.CPU.Round(time.Millisecond).String(), fmt.Sprint(rounds(r.All)),
		})
	}
	table(s, []string{"fresh replica", "sessions", "took", "cpu", "all"}, cells, 2, 3, 4)
}

func forwardTable(s console.Streams, rows []bench.ForwardRow) {
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{
			fmt.Sprint(r.Conns), r.Way, fmt.Sprintf("%.0f", r.PerSecond), micros(r.P50), micros(r.P99), micros(r.CPU), micros(r.FrontCPU), fmt.Sprint(r.Failed),
			fmt.Sprintf("%.2f", r.OfOwner), fmt.Sprintf("%.2f", r.P50Ratio), fmt.Sprintf("%.2f", r.OfProxy),
		})
	}
	table(s, []string{
		"conns", "calls", "req/s", "p50 us", "p99 us", "owner cpu us", "front cpu us", "failed", "÷ owner", "p50 ÷ owner", "÷ proxy",
	}, cells, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11)
}

// table writes a part's table and an empty line, if the part was measured.
func table(s console.Streams, header []string, cells [][]string, rightAligned ...int) {
	if len(cells) == 0 {
		return
	}
	console.Table(s.Out, header, cells, rightAligned...)
	fmt.Fprintln(s.Out)
}
