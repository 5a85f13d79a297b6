package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Where streams are.
const (
	PlaceEmbedded = "R1, embedded"
	PlaceCluster  = "R3, three servers"
)

// SharedRow is one cell of appends: medians over its rounds.
type SharedRow struct {
	Callers    int           `json:"callers"`
	Place      string        `json:"place"`
	Way        string        `json:"way"`
	PerSecond  float64       `json:"perSecond"`
	P50        time.Duration `json:"p50"` // of a caller's wait
	P99        time.Duration `json:"p99"`
	CPU        time.Duration `json:"cpuPerEvent"` // servers included
	OfBare     float64       `json:"ofBare"`      // throughput over packed but bare in the same place
	OfMessage  float64       `json:"ofMessage"`   // throughput over one message an event in the same place
	OfEmbedded float64       `json:"ofEmbedded"`  // throughput over the same way on the embedded server
	P50Ratio   float64       `json:"p50OfEmbedded"`
}

// placed is a way of storing events somewhere.
type placed struct {
	appender

	row     SharedRow
	servers *cluster // nil: in this process
	samples []Sample
}

func (p *placed) cpu() time.Duration {
	if p.servers == nil {
		return p.appender.cpu()
	}
	return p.appender.cpu() + p.servers.cpu()
}

// appends measures storing session events on a cluster beside the embedded server and beside bare group commit.
func (r *replicas) appends(ctx context.Context) (rows []SharedRow, err error) {
	for _, callers := range r.o.Callers {
		r.o.Step(fmt.Sprintf("append: %d callers", callers))
		cell, err := r.sharedCell(ctx, callers)
		if err != nil {
			return rows, err
		}
		rows = append(rows, cell...)
	}
	return rows, nil
}

func (r *replicas) sharedCell(ctx context.Context, callers int) (rows []SharedRow, err error) {
	embedded, err := newScratch(SyncAlways)
	if err != nil {
		return nil, err
	}
	defer embedded.close()
	shared, err := newShared(r.cluster)
	if err != nil {
		return nil, err
	}
	defer shared.close()
	var all []*placed
	defer func() {
		for _, p := range all {
			err = errors.Join(err, p.close(ctx))
		}
		err = errors.Join(err, r.cluster.clear(ctx))
	}()
	for _, w := range appendWays() {
		if w.name != WayCreated && w.name != WayBare && w.name != WayMessage {
			continue
		}
		for _, p := range []*placed{{row: SharedRow{Place: PlaceEmbedded}}, {row: SharedRow{Place: PlaceCluster}, servers: r.cluster}} {
			on := embedded
			if p.servers != nil {
				on = shared
			}
			p.row.Callers, p.row.Way = w.callers(callers), w.name
			if p.appender, err = w.open(ctx, on, p.row.Callers); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", p.row.Way, p.row.Place, err)
			}
			all = append(all, p)
		}
	}
	if err := r.sharedRounds(ctx, all); err != nil {
		return nil, err
	}
	return sharedRows(all), nil
}

func (r *replicas) sharedRounds(ctx context.Context, all []*placed) error {
	for round := range r.o.Rounds + 1 {
		for _, p := range all {
			runtime.GC()
			s, err := appendRound(ctx, p, p.row.Callers, r.o.RoundFor)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", p.row.Way, p.row.Place, err)
			}
			if round > 0 { // the first one warms up
				p.samples = append(p.samples, s)
			}
		}
	}
	return nil
}

func sharedRows(all []*placed) []SharedRow {
	rows := make([]SharedRow, len(all))
	find := func(place, way string) (found SharedRow) {
		for _, r := range rows {
			if r.Place == place && r.Way == way {
				found = r
			}
		}
		return found
	}
	for i, p := range all {
		rows[i] = p.row
		rows[i].PerSecond = Median(p.samples, Sample.PerSecond)
		rows[i].P50 = Median(p.samples, func(s Sample) time.Duration { return s.P50 })
		rows[i].P99 = Median(p.samples, func(s Sample) time.Duration { return s.P99 })
		rows[i].CPU = Median(p.samples, Sample.CPUPerRequest)
	}
	for i := range rows {
		r := &rows[i]
		r.OfBare = ratio(r.PerSecond, find(r.Place, WayBare).PerSecond)
		r.OfMessage = ratio(r.PerSecond, find(r.Place, WayMessage).PerSecond)
		alone := find(PlaceEmbedded, r.Way)
		r.OfEmbedded = ratio(r.PerSecond, alone.PerSecond)
		r.P50Ratio = ratio(float64(r.P50), float64(alone.P50))
	}
	return rows
}
