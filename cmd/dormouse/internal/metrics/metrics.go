// Package metrics counts what the rooms' observers hear, for Prometheus. The main ones carry the names that n8n-mcp's
// session guide gives (mcp_sessions_…); all others begin with dormouse_. No label holds a secret or grows without
// bound.
package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
)

// Metrics implements engine.Observer, commit.Observer and gateway.Observer. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	created, hibernated, limit prometheus.Counter
	ended, wakes               *prometheus.CounterVec
	wakeTime, commitTime       prometheus.Histogram
	batches, events, bytes     prometheus.Counter
	attempts                   prometheus.Counter
	dropped, skipped           *prometheus.CounterVec
	reachable, keyless         prometheus.Gauge

	exported, exportKB, restored, restoreRate prometheus.Gauge
	exports, restores                         sync.Once // the first registers them

	snapshots snapshots

	denied   *prometheus.CounterVec
	upstream prometheus.Gauge
	outages  prometheus.Counter
}

var (
	_ engine.Observer = (*Metrics)(nil)
	_ commit.Observer = (*Metrics)(nil)

	_ gateway.Observer = (*Metrics)(nil)
)

// New returns metrics in a registry of their own.
func New(version string) *Metrics {
	r := prometheus.NewRegistry()
	m := &Metrics{
		registry:    r,
		created:     counter("dormouse_sessions_created_total", "Sessions that were initialized here."),
		hibernated:  counter("dormouse_hibernations_total", "Live sessions that were put to sleep."),
		limit:       counter("dormouse_session_limit_reached_total", "Sessions refused because a limit was reached."),
		ended:       counters("dormouse_sessions_ended_total", "Sessions that this replica ended.", "kind", "reason"),
		wakes:       counters("dormouse_wakes_total", "Dormant sessions that were woken.", "result"),
		wakeTime:    histogram("dormouse_wake_seconds", "Time to wake a dormant session."),
		commitTime:  histogram("dormouse_commit_seconds", "Time from freezing a batch until it was durable."),
		batches:     counter("dormouse_batches_total", "Batches that this writer committed."),
		events:      counter("dormouse_batch_events_total", "Events in these batches."),
		bytes:       counter("dormouse_batch_bytes_total", "Bytes of these batches, as stored."),
		attempts:    counter("dormouse_commit_attempts_failed_total", "Publishes that did not store their batch, or left it in doubt."),
		dropped:     counters("dormouse_accesses_dropped_total", "Access events that will never be stored: superseded by a newer one, or lost.", "why"),
		skipped:     counters("dormouse_restore_skipped_total", "Sessions that restores from exports did not take in.", "reason"),
		reachable:   gauge("dormouse_journal_reachable", "1 while the journal's stream answers."),
		keyless:     gauge("dormouse_sessions_without_key", "Sessions that were restored and cannot wake, because their tenant's key is not there: damage."),
		exported:    gauge("mcp_sessions_exported", "Sessions in the last export."),
		exportKB:    gauge("mcp_sessions_export_size_kb", "Size of the last export as JSON, in KiB."),
		restored:    gauge("mcp_sessions_restored", "Sessions that the last restore from an export took in."),
		restoreRate: gauge("mcp_sessions_restore_success_rate", "Share of the last restore's sessions that were taken in, 0 to 1."),
	}
	m.reachable.Set(1)
	m.snapshots = newSnapshots(r)
	m.newDoor()
	for _, why := range []string{"superseded", "lost"} {
		m.dropped.WithLabelValues(why)
	}
	info := gauge("dormouse_build_info", "Always 1; its labels say what runs.")
	build := prometheus.WrapRegistererWith(prometheus.Labels{"version": version, "go": runtime.Version()}, r)
	info.Set(1)
	build.MustRegister(info)
	r.MustRegister(
		m.created, m.hibernated, m.limit, m.ended, m.wakes, m.wakeTime, m.commitTime, m.batches, m.events, m.bytes,
		m.attempts, m.dropped, m.reachable, m.keyless,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Handler answers with all metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// SessionCreated implements engine.Observer.
func (m *Metrics) SessionCreated() { m.created.Inc() }

// SessionEnded implements engine.Observer.
func (m *Metrics) SessionEnded(kind journal.Kind, reason journal.Reason) {
	why := ""
	if kind == journal.KindClosed {
		why = reason.String()
	}
	m.ended.WithLabelValues(kind.String(), why).Inc()
}

// SessionWoke implements engine.Observer.
func (m *Metrics) SessionWoke(d time.Duration, err error) {
	if err != nil {
		m.wakes.WithLabelValues("failed").Inc()
		return
	}
	m.wakes.WithLabelValues("ok").Inc()
	m.wakeTime.Observe(d.Seconds())
}

// SessionHibernated implements engine.Observer.
func (m *Metrics) SessionHibernated() { m.hibernated.Inc() }

// LimitReached implements engine.Observer.
func (m *Metrics) LimitReached() { m.limit.Inc() }

// BatchCommitted implements commit.Observer.
func (m *Metrics) BatchCommitted(events, bytes int, took time.Duration) {
	m.batches.Inc()
	m.events.Add(float64(events))
	m.bytes.Add(float64(bytes))
	m.commitTime.Observe(took.Seconds())
}

// AttemptFailed implements commit.Observer.
func (m *Metrics) AttemptFailed(error) { m.attempts.Inc() }

// AccessesDropped implements commit.Observer.
func (m *Metrics) AccessesDropped(superseded, lost int) {
	m.dropped.WithLabelValues("superseded").Add(float64(superseded))
	m.dropped.WithLabelValues("lost").Add(float64(lost))
}

// ReachableChanged implements commit.Observer.
func (m *Metrics) ReachableChanged(reachable bool) {
	m.reachable.Set(0)
	if reachable {
		m.reachable.Set(1)
	}
}

// SessionsWithoutKey tells how many restored sessions cannot wake.
func (m *Metrics) SessionsWithoutKey(n int) { m.keyless.Set(float64(n)) }

// Exported notes an export: its sessions and its size as JSON in bytes. Before the first there are no such metrics.
func (m *Metrics) Exported(sessions, size int) {
	m.exports.Do(func() { m.registry.MustRegister(m.exported, m.exportKB) })
	m.exported.Set(float64(sessions))
	m.exportKB.Set(float64(size) / 1024)
}

// Restored notes a restore from an export. Before the first there are no such metrics: a rate of zero is an alarm.
func (m *Metrics) Restored(r engine.RestoreResult) {
	m.restores.Do(func() { m.registry.MustRegister(m.restored, m.restoreRate, m.skipped) })
	m.restored.Set(float64(r.Restored))
	rate := 1.0
	if offered := r.Restored + r.Skipped.Total(); offered > 0 {
		rate = float64(r.Restored) / float64(offered)
	}
	m.restoreRate.Set(rate)
	for reason, n := range map[string]int{
		"expired": r.Skipped.Expired, "duplicate": r.Skipped.Duplicate, "ended": r.Skipped.Ended,
		"invalid": r.Skipped.Invalid, "limit": r.Skipped.Limit,
	} {
		m.skipped.WithLabelValues(reason).Add(float64(n))
	}
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func histogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12)})
}
