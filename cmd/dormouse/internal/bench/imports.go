package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// ImportSessions is how many sessions the ways of bringing in an export are given.
const ImportSessions = 10_000

// The ways of bringing in an export.
const (
	WayImport = "dormouse, RestoreSessionState, fsynced"
	WayN8NMCP = "n8n-mcp, restoreSessionState, in memory"
)

// imports brings in an export of ImportSessions sessions, which is in memory as it came from JSON.
func (r *restoring) imports(ctx context.Context) ([]RestoreRow, error) {
	states := make([]engine.SessionState, ImportSessions)
	now := time.Now()
	for i := range states {
		states[i] = engine.SessionState{
			SessionID: journal.NewSessionID(), Metadata: engine.SessionMetadata{CreatedAt: now.Add(-time.Minute), LastAccess: now},
		}
		label := fmt.Sprintf("instance-%d", i%benchTenants)
		if err := json.Unmarshal(instanceContext(label), &states[i].Context); err != nil {
			return nil, err
		}
	}
	row := func(way string, took, cpu time.Duration) RestoreRow {
		return RestoreRow{Way: way, Took: took, CPU: cpu, PerSecond: ImportSessions / took.Seconds()}
	}
	samples := make([]Sample, 0, r.o.Rounds)
	for round := range r.o.Rounds + 1 {
		s, err := r.importOnce(ctx, fmt.Sprintf("import%d", round), states)
		if err != nil {
			return nil, err
		}
		if round > 0 { // the first one warms up
			samples = append(samples, s)
		}
	}
	rows := []RestoreRow{row(WayImport, Median(samples, func(s Sample) time.Duration { return s.Elapsed }), Median(samples, func(s Sample) time.Duration { return s.CPU }))}
	took, err := r.n8nmcp(ctx, states)
	if errors.Is(err, errAbsent) {
		r.o.Step("left out: " + err.Error())
		return rows, nil
	}
	return append(rows, row(WayN8NMCP, took, 0)), err
}

// importOnce restores into a journal of its own.
func (r *restoring) importOnce(ctx context.Context, prefix string, states []engine.SessionState) (s Sample, err error) {
	j, err := r.scratch.journal(ctx, prefix)
	if err != nil {
		return s, err
	}
	h, err := newHouse(ctx, j, seal.GenerateKeyring(), ImportSessions)
	if err != nil {
		return s, err
	}
	defer h.stop()
	var result engine.RestoreResult
	s, err = timed(func() error {
		result, err = h.engine.RestoreSessionState(ctx, states)
		return err
	})
	if err == nil && result.Restored != len(states) {
		err = fmt.Errorf("%d of %d sessions were restored", result.Restored, len(states))
	}
	return s, err
}

// n8nScript prints the milliseconds that n8n-mcp's engine needs.
const n8nScript = `
import fs from 'node:fs';
const { N8NMCPEngine } = (await import('n8n-mcp')).default;
const engine = new N8NMCPEngine({ logLevel: 'error' });
const states = JSON.parse(fs.readFileSync(process.env.STATES, 'utf8'));
const began = performance.now();
const restored = engine.restoreSessionState(states);
process.stdout.write('\nresult ' + restored + ' ' + (performance.now() - began) + '\n');
process.exit(0);
`

// n8nmcp lets n8n-mcp's own engine restore the sessions.
func (r *restoring) n8nmcp(ctx context.Context, states []engine.SessionState) (time.Duration, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return 0, fmt.Errorf("node %w", errAbsent)
	}
	if _, err := os.Stat(filepath.Join(r.o.Node, "node_modules", "n8n-mcp")); err != nil {
		return 0, fmt.Errorf("n8n-mcp %w in %s", errAbsent, r.o.Node)
	}
	r.o.Step("restore: n8n-mcp")
	file := filepath.Join(r.scratch.dir, "states.json")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(engine.EncodeSessionStates(f, states), f.Close()); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, node, "--input-type=module", "-e", n8nScript) //nolint:gosec // the operator's own node
	cmd.Dir = r.o.Node
	cmd.Env = append(os.Environ(), "STATES="+file, "AUTH_TOKEN=a-token-of-thirty-two-characters!", "N8N_MCP_TELEMETRY_DISABLED=true",
		"LOG_LEVEL=error", "WEBHOOK_SECURITY_MODE=moderate", "ENABLE_MULTI_TENANT=true", "N8N_MCP_MAX_SESSIONS="+strconv.Itoa(2*ImportSessions))
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("n8n-mcp: %w", err)
	}
	_, line, _ := strings.Cut(string(out), "\nresult ")
	var restored int
	var ms float64
	if _, err := fmt.Sscan(line, &restored, &ms); err != nil || restored == 0 {
		return 0, fmt.Errorf("n8n-mcp restored %d sessions: %w", restored, err)
	}
	return time.Duration(ms * float64(time.Millisecond) * ImportSessions / float64(restored)), nil
}
