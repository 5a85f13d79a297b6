package metrics_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/metrics"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d, %v", w.Code, err)
	}
	return string(text)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m, ready := metrics.New("1.2.3"), false
	m.Watch(metrics.Sources{
		Ready: func() bool { return ready },
		Sessions: func() engine.SessionInfo {
			return engine.SessionInfo{Sessions: 5, Live: 2, Dormant: 3, OldestAge: 90 * time.Second, Limit: 10}
		},
		Fold: func() (replay.Stats, journal.Seq) {
			return replay.Stats{
				Accepted: map[journal.Kind]uint64{journal.KindCreated: 5}, Refused: map[replay.Refusal]uint64{replay.RefusedEnded: 1},
			}, 77
		},
		Restore: func() float64 { return 0.25 },
	})
	before := scrape(t, m)
	for _, absent := range []string{"mcp_sessions_active", "mcp_sessions_restore_success_rate"} {
		if strings.Contains(before, absent) {
			t.Errorf("%s is there before it is known", absent)
		}
	}
	ready = true
	m.SessionCreated()
	m.SessionEnded(journal.KindClosed, journal.ReasonAdmin)
	m.SessionEnded(journal.KindExpired, 0)
	m.SessionWoke(time.Millisecond, nil)
	m.SessionWoke(0, errors.New("no"))
	m.SessionHibernated()
	m.LimitReached()
	m.BatchCommitted(100, 4096, time.Millisecond)
	m.AttemptFailed(errors.New("no"))
	m.AccessesDropped(3, 1)
	m.ReachableChanged(false)
	m.RequestDenied(gateway.DeniedTenantRate)
	m.WatchUpstream()
	m.UpstreamReachable(true)
	m.UpstreamReachable(false)
	m.Exported(5, 2048)
	m.Restored(engine.RestoreResult{Restored: 3, Skipped: engine.Skipped{Ended: 1}})
	after := scrape(t, m)
	for _, want := range []string{
		"dormouse_ready 1", "mcp_sessions_active 5", "mcp_sessions_age_seconds 90", "dormouse_sessions_live 2", "dormouse_sessions_dormant 3",
		"mcp_sessions_exported 5", "mcp_sessions_export_size_kb 2", "mcp_sessions_restored 3", "mcp_sessions_restore_success_rate 0.75",
		`dormouse_restore_skipped_total{reason="ended"} 1`, `dormouse_restore_skipped_total{reason="limit"} 0`,
		`dormouse_sessions_ended_total{kind="closed",reason="admin"} 1`, `dormouse_sessions_ended_total{kind="expired",reason=""} 1`,
		`dormouse_wakes_total{result="ok"} 1`, `dormouse_wakes_total{result="failed"} 1`, "dormouse_hibernations_total 1",
		"dormouse_session_limit_reached_total 1", "dormouse_batch_events_total 100", `dormouse_accesses_dropped_total{why="lost"} 1`,
		"dormouse_journal_reachable 0", `dormouse_events_accepted_total{kind="created"} 5`, `dormouse_events_refused_total{reason="ended"} 1`,
		`dormouse_requests_denied_total{reason="tenant-rate"} 1`, `dormouse_requests_denied_total{reason="principal-rate"} 0`,
		"dormouse_upstream_reachable 0", "dormouse_upstream_outages_total 1",
		"dormouse_folded_sequence 77", "dormouse_restore_seconds 0.25", `version="1.2.3"`,
	} {
		if !strings.Contains(after, want) {
			t.Errorf("no %s", want)
		}
	}
}
