package views_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/views"
)

func TestWhat(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]control.Event{
		"tools/call search  ok in 1.5ms": {Call: &control.Call{Method: "tools/call", Tool: "search", Outcome: "ok", DurationMS: 1.5}},
		"ping":                           {Call: &control.Call{Method: "ping"}},
		"tenant acme, token:ci, MCP 2025-11-25": {Created: &control.Created{
			Source: "client", Tenant: "ff00", Label: "acme", Principal: "token:ci", Protocol: "2025-11-25",
		}},
		"tenant ff00ff00, credential:01234567, by import": {Created: &control.Created{
			Source: "import", Tenant: "ff00ff00ff00ff00", Principal: "credential:0123456789abcdef",
		}},
		"epoch 3, replica r1":                      {Epoch: 3, Bound: &control.Bound{Replica: "r1"}},
		"epoch 3, upstream session recorded":       {Epoch: 3, Bound: &control.Bound{Replica: "r1", Upstream: true}},
		"context, principal":                       {Changed: []string{"context", "principal"}},
		"by client":                                {Reason: "client"},
		"by admin  [refused: ended]":               {Reason: "admin", Refused: "ended"},
		"r1, version 2, knows events up to closed": {Note: &control.Note{Replica: "r1", Version: "2", Kinds: "closed"}},
		"unused since 2026-01-01":                  {Basis: "2026-01-01"},
		"tools/call ·[31mred·":                     {Call: &control.Call{Method: "tools/call", Tool: "\x1b[31mred\n"}},
		"":                                         {},
	} {
		if got := views.What(&e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSessionsKeepsResultsApart(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	now := time.Now()
	session := func(ref string) control.Session {
		return control.Session{Ref: ref, Tenant: "00", State: control.StateLive, CreatedAt: now, LastAccess: now, ExpiresAt: now}
	}
	views.Sessions(console.Streams{Out: &out, Err: &errs}, []control.Session{
		session("aaaaaaaabb000000" + strings.Repeat("0", 16)), session("aaaaaaaabc000000" + strings.Repeat("0", 16)),
	})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], "aaaaaaaabb ") || !strings.HasPrefix(lines[2], "aaaaaaaabc ") {
		t.Errorf("refs are not abbreviated to what keeps them apart:\n%s", out.String())
	}
	if errs.String() != "2 sessions: 2 live\n" {
		t.Errorf("summary %q", errs.String())
	}
	out.Reset()
	errs.Reset()
	views.Sessions(console.Streams{Out: &out, Err: &errs}, nil)
	if out.Len() != 0 || errs.String() != "no sessions\n" {
		t.Errorf("nothing: %q, %q", out.String(), errs.String())
	}
}

func TestEventLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	write := views.EventLines(&out)
	for range 2 {
		if err := write(control.Event{Kind: "closed", Ref: "0123456789", Reason: "client"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := out.String(); strings.Count(got, "EVENT") != 1 || strings.Count(got, "closed           01234567  by client\n") != 2 {
		t.Errorf("got\n%s", got)
	}
}
