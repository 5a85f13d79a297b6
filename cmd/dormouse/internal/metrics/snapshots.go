package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

var _ snapshot.Observer = (*Metrics)(nil)

// snapshots are the metrics of snapshots.
type snapshots struct {
	taken, failed                  prometheus.Counter
	seq, sessions, bytes, duration prometheus.Gauge
	loaded, passed, first          prometheus.Gauge
	unknown, lost                  prometheus.Gauge
	start                          *prometheus.GaugeVec
}

func newSnapshots(r *prometheus.Registry) snapshots {
	s := snapshots{
		taken:    counter("dormouse_snapshots_total", "Snapshots that this replica took."),
		failed:   counter("dormouse_snapshots_failed_total", "Snapshots that this replica could not take."),
		seq:      gauge("dormouse_snapshot_sequence", "Stream sequence of the last snapshot taken here."),
		sessions: gauge("dormouse_snapshot_sessions", "Sessions in it."),
		bytes:    gauge("dormouse_snapshot_bytes", "Its size."),
		duration: gauge("dormouse_snapshot_seconds", "How long it took until it was durable."),
		loaded:   gauge("dormouse_restored_from_snapshot", "Sessions that the restore at start took from a snapshot; the rest was folded."),
		passed:   gauge("dormouse_snapshots_passed_over", "Snapshots that the restore at start could not use: damage, if any."),
		unknown:  gauge("dormouse_start_events_skipped", "Events that the restore at start skipped, because this release does not know their kinds."),
		lost:     gauge("dormouse_start_batches_lost", "Batches of the journal that an operator accepted as lost, as the restore at start found them."),
		start: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dormouse_start_sessions",
			Help: "What the restore at start found of sessions: restored, expired while nothing ran, or damaged, which are closed because their tenant's key is lost.",
		}, []string{"result"}),
		first: gauge("dormouse_stream_trimmed_sequence", "The stream's first sequence after this replica's last trim; 0 = none yet."),
	}
	r.MustRegister(s.taken, s.failed, s.seq, s.sessions, s.bytes, s.duration, s.loaded, s.passed, s.first, s.unknown, s.lost, s.start)
	return s
}

// SnapshotTaken implements snapshot.Observer.
func (m *Metrics) SnapshotTaken(r snapshot.Report) {
	s := &m.snapshots
	s.taken.Inc()
	s.seq.Set(float64(r.Seq))
	s.sessions.Set(float64(r.Sessions))
	s.bytes.Set(float64(r.Bytes))
	s.duration.Set(r.Wrote.Seconds())
}

// SnapshotFailed implements snapshot.Observer.
func (m *Metrics) SnapshotFailed(error) { m.snapshots.failed.Inc() }

// StreamTrimmed implements snapshot.Observer.
func (m *Metrics) StreamTrimmed(first journal.Seq) { m.snapshots.first.Set(float64(first)) }

// Start is what a restore at start found.
type Start struct {
	Restored, Expired, Damaged int    // sessions
	Skipped, Lost              uint64 // events; batches
	Loaded, PassedOver         int    // sessions from a snapshot; snapshots that could not be used
}

// Started tells what the restore at start found.
func (m *Metrics) Started(x Start) {
	s := &m.snapshots
	for result, n := range map[string]int{"restored": x.Restored, "expired": x.Expired, "damaged": x.Damaged} {
		s.start.WithLabelValues(result).Set(float64(n))
	}
	s.unknown.Set(float64(x.Skipped))
	s.lost.Set(float64(x.Lost))
	s.loaded.Set(float64(x.Loaded))
	s.passed.Set(float64(x.PassedOver))
}
