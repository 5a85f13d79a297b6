package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// GatewayOptions say what Gateway measures.
type GatewayOptions struct {
	Conns    []int         // numbers of concurrent clients
	Tools    []string      // of Upstream's tools
	Rounds   int           // interleaved rounds for each cell
	RoundFor time.Duration // how long one round lasts
	Step     func(string)  // told what is under way; not nil
}

// The targets of the gateway benchmark, in the order of the rounds.
const (
	TargetUpstream = "upstream alone"
	TargetProxy    = "bare reverse proxy"
	TargetDormouse = "dormouse"
)

// GatewayRow is one cell: medians over its rounds.
type GatewayRow struct {
	Tool       string        `json:"tool"`
	Conns      int           `json:"conns"`
	Target     string        `json:"target"`
	PerSecond  float64       `json:"perSecond"`
	P50        time.Duration `json:"p50"`
	P99        time.Duration `json:"p99"`
	CPU        time.Duration `json:"cpuPerRequest"`
	Failed     int           `json:"failed"`
	Throughput float64       `json:"ofProxy"`    // throughput over the bare proxy's
	P50Ratio   float64       `json:"p50OfProxy"` // latencies likewise
	P99Ratio   float64       `json:"p99OfProxy"`
}

type target struct {
	name string
	url  string
	proc *child
}

// Gateway measures requests through `dormouse serve` beside the same upstream alone and behind a bare
// httputil.ReverseProxy. Each of them is a process of its own; this one makes the load.
func Gateway(ctx context.Context, o GatewayOptions) ([]GatewayRow, error) {
	dir, err := os.MkdirTemp("", "dormouse-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	targets, err := startTargets(ctx, dir)
	defer func() {
		for _, t := range targets {
			t.proc.stop()
		}
	}()
	if err != nil {
		return nil, err
	}
	var rows []GatewayRow
	for _, tool := range o.Tools {
		for _, conns := range o.Conns {
			o.Step(fmt.Sprintf("%s, %d connections", tool, conns))
			cell, err := o.cell(ctx, targets, Load{Conns: conns, Tool: tool, For: o.RoundFor})
			if err != nil {
				return rows, err
			}
			rows = append(rows, cell...)
		}
	}
	return rows, nil
}

func (o GatewayOptions) cell(ctx context.Context, targets []target, load Load) ([]GatewayRow, error) {
	samples := make([][]Sample, len(targets))
	open := make([][]*session, len(targets))
	defer func() {
		for _, s := range open {
			closeAll(s)
		}
	}()
	for i, t := range targets {
		var err error
		if open[i], err = load.connect(ctx, t.url); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	for round := range o.Rounds + 1 {
		for i, t := range targets {
			before := t.proc.cpu()
			s := load.Round(open[i])
			s.CPU = t.proc.cpu() - before
			if round > 0 { // the first one warms up
				samples[i] = append(samples[i], s)
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		}
	}
	return gatewayRows(targets, samples, load), nil
}

func gatewayRows(targets []target, samples [][]Sample, load Load) []GatewayRow {
	rows := make([]GatewayRow, len(targets))
	var proxy GatewayRow
	for i, t := range targets {
		r := GatewayRow{
			Tool: load.Tool, Conns: load.Conns, Target: t.name,
			PerSecond: Median(samples[i], Sample.PerSecond),
			P50:       Median(samples[i], func(s Sample) time.Duration { return s.P50 }),
			P99:       Median(samples[i], func(s Sample) time.Duration { return s.P99 }),
			CPU:       Median(samples[i], Sample.CPUPerRequest),
		}
		for _, s := range samples[i] {
			r.Failed += s.Failed
		}
		if t.name == TargetProxy {
			proxy = r
		}
		rows[i] = r
	}
	for i := range rows {
		rows[i].Throughput = ratio(rows[i].PerSecond, proxy.PerSecond)
		rows[i].P50Ratio = ratio(float64(rows[i].P50), float64(proxy.P50))
		rows[i].P99Ratio = ratio(float64(rows[i].P99), float64(proxy.P99))
	}
	return rows
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func startTargets(ctx context.Context, dir string) (targets []target, err error) {
	addresses := make([]string, 4)
	for i := range addresses {
		if addresses[i], err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	mcp := func(i int) string { return "http://" + addresses[i] + "/mcp" }
	commands := []struct {
		name  string
		ready string
		args  []string
	}{
		{TargetUpstream, "/healthz", []string{"bench", "part", "--listen", addresses[0]}},
		{TargetProxy, "/healthz", []string{"bench", "part", "--listen", addresses[1], "--target", mcp(0)}},
		{TargetDormouse, "/readyz", []string{
			"serve", "--data", filepath.Join(dir, "data"), "--upstream", mcp(0),
			"--listen", addresses[2], "--admin-listen", addresses[3],
		}},
	}
	for i, c := range commands {
		p, err := start(ctx, c.args...)
		if err != nil {
			return targets, err
		}
		targets = append(targets, target{c.name, mcp(i), p})
		if err := p.ready(ctx, "http://"+addresses[i]+c.ready, 20*time.Millisecond); err != nil {
			return targets, err
		}
	}
	return targets, nil
}

// PartOptions say which of the benchmark's own processes to be.
type PartOptions struct {
	Listen string // of the upstream, or of the bare proxy
	Target string // what the proxy stands in front of; empty = be the upstream
	NATS   string // configuration file; be a NATS server
}

// Part serves until ctx ends: the upstream, the bare proxy, or one server of a cluster.
func Part(ctx context.Context, o PartOptions) error {
	if o.NATS != "" {
		return partNATS(ctx, o.NATS)
	}
	listen, to := o.Listen, o.Target
	handler := Upstream()
	if to != "" {
		u, err := url.Parse(to)
		if err != nil {
			return err
		}
		handler = Proxy(u)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
