package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dormouse-mcp/dormouse/engine/replicas"
)

// ReplicaSources are what is asked at each scrape of a replica that is one of several. All are safe for concurrent use.
type ReplicaSources struct {
	Lag   func() replicas.Lag
	Peers func() []replicas.Peer
	Clock func() (ahead float64) // seconds; of the stream's clock before this machine's
}

type replicaCollector struct {
	s                                     ReplicaSources
	batches, events, since, clock, others *prometheus.Desc
}

// WatchReplicas adds the metrics of a replica among others.
func (m *Metrics) WatchReplicas(s ReplicaSources) {
	m.registry.MustRegister(&replicaCollector{
		s:       s,
		batches: describe("dormouse_standby_lag_batches", "Batches that another replica has folded and this one has not."),
		events:  describe("dormouse_standby_lag_events", "Events in these batches."),
		since:   describe("dormouse_standby_lag_seconds", "Time since this replica was known to have folded all that the stream held."),
		clock:   describe("dormouse_clock_ahead_seconds", "How far the stream's clock, by which sessions expire, is ahead of this machine's; negative: behind."),
		others:  describe("dormouse_replicas", "Other replicas that were heard in the last hour.", "state"),
	})
}

// Describe implements prometheus.Collector.
func (c *replicaCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.batches, c.events, c.since, c.clock, c.others} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *replicaCollector) Collect(ch chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	lag := c.s.Lag()
	set(c.batches, float64(lag.Batches))
	set(c.events, float64(lag.Events))
	set(c.since, lag.Since.Seconds())
	set(c.clock, c.s.Clock())
	states := map[string]int{"there": 0, "silent": 0, "gone": 0}
	for _, p := range c.s.Peers() {
		states[p.State]++
	}
	for state, n := range states {
		set(c.others, float64(n), state)
	}
}
