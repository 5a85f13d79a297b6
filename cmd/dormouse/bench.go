package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/bench"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/config"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
)

type benchCmd struct {
	Append   benchAppendCmd   `cmd:"" help:"Durable appends, beside one message an event, bare group commit and redis."`
	Replay   benchReplayCmd   `cmd:"" help:"Reading a journal until its state is folded, beside JSON messages and a bare read."`
	Find     benchFindCmd     `cmd:"" help:"One session's and one time range's events out of a long journal, with and without skipping."`
	Gateway  benchGatewayCmd  `cmd:"" help:"Requests through the gateway, beside the upstream alone and a bare reverse proxy."`
	Restore  benchRestoreCmd  `cmd:"" help:"A snapshot of many dormant sessions, taken and restored, beside a fold of the stream, a JSON file and redis; an export brought in, beside n8n-mcp."`
	Startup  benchStartupCmd  `cmd:"" help:"Durable session creates over HTTP, then from exec after kill -9 to the first answered call."`
	Replicas benchReplicasCmd `cmd:"" help:"Several replicas on a NATS of three: take-over, appends, lag of a standby, a fresh replica, forwarding."`
	Part     benchPartCmd     `cmd:"" hidden:"" help:"One of the benchmark's own processes."`
}

type benchGatewayCmd struct {
	jsonFlag
	Conns    []int           `help:"Numbers of concurrent clients." default:"1,16,128"`
	Tools    []string        `help:"Answers: small, large (50 KB), small-sse, large-sse." default:"small"`
	Rounds   int             `help:"Measured rounds for each cell, after one that warms up." default:"5"`
	RoundFor config.Duration `help:"How long a round lasts." default:"1s" placeholder:"DURATION"`
}

// Run measures and prints a table of medians.
func (c *benchGatewayCmd) Run(ctx context.Context, s console.Streams) error {
	if err := positive("round-for", c.RoundFor); err != nil {
		return err
	}
	rows, err := bench.Gateway(ctx, bench.GatewayOptions{
		Conns: c.Conns, Tools: c.Tools, Rounds: c.Rounds, RoundFor: c.RoundFor.Std(), Step: step(s),
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
			r.Tool, fmt.Sprint(r.Conns), r.Target, fmt.Sprintf("%.0f", r.PerSecond), micros(r.P50), micros(r.P99), micros(r.CPU),
			fmt.Sprint(r.Failed), fmt.Sprintf("%.2f", r.Throughput), fmt.Sprintf("%.2f", r.P50Ratio), fmt.Sprintf("%.2f", r.P99Ratio),
		})
	}
	console.Table(s.Out, []string{
		"answer", "conns", "target", "req/s", "p50 us", "p99 us", "cpu us/req", "failed", "req/s ÷ proxy", "p50 ÷ proxy", "p99 ÷ proxy",
	}, cells, 2, 4, 5, 6, 7, 8, 9, 10, 11)
	return nil
}

type benchStartupCmd struct {
	jsonFlag
	Sessions int `help:"Sessions in the journal." default:"10000"`
	Rounds   int `help:"Kills and starts." default:"5"`
}

// Run measures and prints the figures.
func (c *benchStartupCmd) Run(ctx context.Context, s console.Streams) error {
	r, err := bench.Startup(ctx, bench.StartupOptions{Sessions: c.Sessions, Rounds: c.Rounds, Step: step(s)})
	if err != nil {
		return err
	}
	if c.JSON {
		return console.JSON(s.Out, r)
	}
	console.Fields(s.Out, [][2]string{
		{"sessions", fmt.Sprint(r.Sessions)},
		{"durable creates", fmt.Sprintf("%.0f a second over HTTP (p50 %v, p99 %v)", r.PerSec, round(r.P50), round(r.P99))},
		{"exec to first answer", fmt.Sprintf("%v (median of %d starts after SIGKILL: %v)", round(r.Median), len(r.Starts), rounds(r.Starts))},
	})
	return nil
}

type benchPartCmd struct {
	Listen string
	Target string
	NATS   string `name:"nats"`
}

// Run serves until it is killed.
func (c *benchPartCmd) Run(ctx context.Context) error {
	return bench.Part(ctx, bench.PartOptions{Listen: c.Listen, Target: c.Target, NATS: c.NATS})
}

// step tells on standard error what is under way.
func step(s console.Streams) func(string) {
	return func(what string) { fmt.Fprintf(s.Err, "bench: %s\n", what) }
}

func micros(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/1e3) }

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func rounds(ds []time.Duration) []time.Duration {
	out := make([]time.Duration, len(ds))
	for i, d := range ds {
		out[i] = round(d)
	}
	return out
}
