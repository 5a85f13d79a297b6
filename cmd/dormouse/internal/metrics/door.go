package metrics

import "github.com/dormouse-mcp/dormouse/engine/gateway"

// newDoor makes the metrics of the clients' endpoint. Every reason is there from the start, so that rates can be taken.
func (m *Metrics) newDoor() {
	m.denied = counters("dormouse_requests_denied_total", "Requests that were not let through.", "reason")
	m.upstream = gauge("dormouse_upstream_reachable", "1 while the --upstream answers; 0 while it refuses connections, breaks them, or takes them and says nothing.")
	m.outages = counter("dormouse_upstream_outages_total", "Times that the --upstream stopped answering.")
	m.upstream.Set(1)
	for _, why := range gateway.Denials() {
		m.denied.WithLabelValues(string(why))
	}
	m.registry.MustRegister(m.denied)
}

// WatchUpstream adds the metrics of an upstream that all sessions share.
func (m *Metrics) WatchUpstream() { m.registry.MustRegister(m.upstream, m.outages) }

// RequestDenied implements gateway.Observer.
func (m *Metrics) RequestDenied(why gateway.Denial) { m.denied.WithLabelValues(string(why)).Inc() }

// UpstreamReachable implements gateway.Observer.
func (m *Metrics) UpstreamReachable(yes bool) {
	if yes {
		m.upstream.Set(1)
		return
	}
	m.upstream.Set(0)
	m.outages.Inc()
}
