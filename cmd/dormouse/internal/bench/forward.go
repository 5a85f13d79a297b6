package bench

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

// The ways to a session's server, in the order of the rounds.
const (
	WayOwner     = "its own replica"
	WayForwarded = "through another replica"
	WayProxied   = "through a bare reverse proxy"
)

// ForwardRow is one cell: medians over its rounds.
type ForwardRow struct {
	Conns     int           `json:"conns"`
	Way       string        `json:"way"`
	PerSecond float64       `json:"perSecond"`
	P50       time.Duration `json:"p50"`
	P99       time.Duration `json:"p99"`
	CPU       time.Duration `json:"cpuPerRequest"` // of the replica that serves the session
	FrontCPU  time.Duration `json:"frontCPU"`      // of what stands before it
	Failed    int           `json:"failed"`
	OfOwner   float64       `json:"ofOwner"` // throughput over that of the session's own replica
	P50Ratio  float64       `json:"p50OfOwner"`
	OfProxy   float64       `json:"ofProxy"` // throughput over the bare proxy's
}

// path is one way to sessions, which are open on their own replica.
type path struct {
	name    string
	url     string
	front   *child // nil = nothing stands before it
	open    []*session
	samples []Sample
	fronts  []Sample // the same, with the front's processor time
}

// forward measures small calls of sessions whose servers live in one replica, sent to it, to another one, and through a bare
// reverse proxy.
func (r *replicas) forward(ctx context.Context) (rows []ForwardRow, err error) {
	f, err := newFleet(r.folder, r.cluster, "forward")
	if err != nil {
		return nil, err
	}
	defer f.stop()
	if err := f.addAll(ctx, 2); err != nil {
		return nil, err
	}
	owner, other := f.members[0], f.members[1]
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	proxy, err := start(ctx, "bench", "part", "--listen", address, "--target", owner.url().String())
	if err != nil {
		return nil, err
	}
	defer proxy.stop()
	if err := proxy.ready(ctx, "http://"+address+"/healthz", 20*time.Millisecond); err != nil {
		return nil, err
	}
	for _, conns := range r.o.Conns {
		r.o.Step(fmt.Sprintf("forwarding: %d connections", conns))
		paths := []*path{
			{name: WayOwner, url: owner.url().String()},
			{name: WayForwarded, url: other.url().String(), front: other.child},
			{name: WayProxied, url: "http://" + address + "/mcp", front: proxy},
		}
		cell, err := r.forwardCell(ctx, owner, paths, Load{Conns: conns, Tool: ToolBuiltIn, For: r.o.RoundFor, Header: asTenant()})
		if err != nil {
			return rows, err
		}
		rows = append(rows, cell...)
	}
	return rows, nil
}

func (r *replicas) forwardCell(ctx context.Context, owner *member, paths []*path, load Load) ([]ForwardRow, error) {
	defer func() {
		for _, p := range paths {
			closeAll(p.open)
		}
	}()
	for _, p := range paths {
		if err := p.connect(ctx, load, owner.url().String()); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for round := range r.o.Rounds + 1 {
		for _, p := range paths {
			begin, front := owner.cpu(), p.frontCPU()
			s := load.Round(p.open)
			s.CPU = owner.cpu() - begin
			f := s
			f.CPU = p.frontCPU() - front
			if round > 0 { // the first one warms up
				p.samples, p.fronts = append(p.samples, s), append(p.fronts, f)
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		}
	}
	return forwardRows(paths, load), nil
}

// connect opens sessions on their own replica, and connections for them on the path.
func (p *path) connect(ctx context.Context, load Load, owner string) error {
	sessions, err := load.connect(ctx, owner)
	if err != nil {
		return err
	}
	p.open = sessions
	u, err := url.Parse(p.url)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		s.again = func() error { return s.move(ctx, u) }
		if err := s.again(); err != nil {
			return err
		}
	}
	return nil
}

func (p *path) frontCPU() time.Duration {
	if p.front == nil {
		return 0
	}
	return p.front.cpu()
}

func forwardRows(paths []*path, load Load) []ForwardRow {
	rows := make([]ForwardRow, len(paths))
	var owner, proxy ForwardRow
	for i, p := range paths {
		r := ForwardRow{
			Conns: load.Conns, Way: p.name,
			PerSecond: Median(p.samples, Sample.PerSecond),
			P50:       Median(p.samples, func(s Sample) time.Duration { return s.P50 }),
			P99:       Median(p.samples, func(s Sample) time.Duration { return s.P99 }),
			CPU:       Median(p.samples, Sample.CPUPerRequest),
			FrontCPU:  Median(p.fronts, Sample.CPUPerRequest),
		}
		for _, s := range p.samples {
			r.Failed += s.Failed
		}
		switch p.name {
		case WayOwner:
			owner = r
		case WayProxied:
			proxy = r
		}
		rows[i] = r
	}
	for i := range rows {
		rows[i].OfOwner = ratio(rows[i].PerSecond, owner.PerSecond)
		rows[i].P50Ratio = ratio(float64(rows[i].P50), float64(owner.P50))
		rows[i].OfProxy = ratio(rows[i].PerSecond, proxy.PerSecond)
	}
	return rows
}
