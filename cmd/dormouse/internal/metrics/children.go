package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dormouse-mcp/dormouse/engine/gateway/stdio"
)

// WatchChildren adds the metrics of an upstream of child processes.
func (m *Metrics) WatchChildren(stats func() stdio.Stats) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dormouse_children", Help: "Child processes of --upstream-command.",
		}, func() float64 { return float64(stats().Alive) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "dormouse_children_started_total", Help: "Child processes that were started.",
		}, func() float64 { return float64(stats().Started) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "dormouse_children_died_total", Help: "Child processes that ended without being told to, those included that were killed for a limit.",
		}, func() float64 { return float64(stats().Died) }),
	)
}
