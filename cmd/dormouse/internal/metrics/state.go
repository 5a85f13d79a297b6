package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Sources are what is asked at each scrape. All are safe for concurrent use.
type Sources struct {
	// Sessions and Fold are asked only once Ready gives true.
	Ready    func() bool
	Sessions func() engine.SessionInfo
	Fold     func() (replay.Stats, journal.Seq)
	Restore  func() float64 // seconds that the restore took, or takes
}

// stateCollector turns the present state into metrics.
type stateCollector struct {
	s Sources

	ready, active, age, live, dormant, limit, folded, restore *prometheus.Desc
	accepted, refused, unknown                                *prometheus.Desc
}

// Watch adds the metrics of the present state.
func (m *Metrics) Watch(s Sources) {
	m.registry.MustRegister(&stateCollector{
		s:        s,
		ready:    describe("dormouse_ready", "1 once the sessions are restored and the gateway serves."),
		active:   describe("mcp_sessions_active", "Sessions, live and dormant."),
		age:      describe("mcp_sessions_age_seconds", "Age of the oldest session."),
		live:     describe("dormouse_sessions_live", "Sessions with a runtime on this replica."),
		dormant:  describe("dormouse_sessions_dormant", "Sessions that their next request wakes."),
		limit:    describe("dormouse_sessions_limit", "Most sessions that there may be."),
		folded:   describe("dormouse_folded_sequence", "Stream sequence up to which this replica has folded."),
		restore:  describe("dormouse_restore_seconds", "How long the restore at start took."),
		accepted: describe("dormouse_events_accepted_total", "Events that the fold accepted, since the journal's beginning.", "kind"),
		refused:  describe("dormouse_events_refused_total", "Events that the fold refused, since the journal's beginning.", "reason"),
		unknown:  describe("dormouse_events_unknown_total", "Events of kinds that this release does not know."),
	})
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.ready, c.active, c.age, c.live, c.dormant, c.limit, c.folded, c.restore, c.accepted, c.refused, c.unknown,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	set(c.restore, c.s.Restore())
	if !c.s.Ready() {
		set(c.ready, 0)
		return
	}
	set(c.ready, 1)
	info := c.s.Sessions()
	set(c.active, float64(info.Sessions))
	set(c.age, info.OldestAge.Seconds())
	set(c.live, float64(info.Live))
	set(c.dormant, float64(info.Dormant))
	set(c.limit, float64(info.Limit))
	stats, seq := c.s.Fold()
	set(c.folded, float64(seq))
	for kind, n := range stats.Accepted {
		count(c.accepted, n, kind.String())
	}
	for why, n := range stats.Refused {
		count(c.refused, n, string(why))
	}
	count(c.unknown, stats.Unknown)
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}
