package control_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/control"
	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// fixture is a backend over a journal in memory.
type fixture struct {
	t         *testing.T
	journal   *memory.Journal
	committer *commit.Committer
	follower  *replay.Follower
	backend   *control.Backend
	live      map[journal.Ref]bool
	ready     bool
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, journal: memory.New(), live: map[journal.Ref]bool{}, ready: true}
	keys, w := seal.GenerateKeyring(), journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(keys, w)
	if err != nil {
		t.Fatal(err)
	}
	f.committer, err = commit.New(commit.Options{Port: f.journal, Encoder: sealer, Journal: f.journal.ID(), Writer: w})
	if err != nil {
		t.Fatal(err)
	}
	opener := seal.NewBatchOpener(keys)
	f.follower, err = replay.Follow(t.Context(), replay.FollowOptions{Source: f.journal, Opener: opener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.committer.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := f.follower.Close(); err != nil {
			t.Error(err)
		}
	})
	f.backend = &control.Backend{
		Status: func() control.Status { return control.Status{State: "restoring", Folded: 3, Target: 9} },
		Ready:  func() bool { return f.ready },
		View:   f.follower.View,
		History: func(ctx context.Context, q audit.Query, fn func(audit.Entry) error) error {
			return audit.History(ctx, f.journal, opener, q, fn)
		},
		Close: f.close,
		Live:  func() map[journal.Ref]bool { return f.live },
	}
	return f
}

func (f *fixture) append(events ...journal.Event) {
	f.t.Helper()
	at, err := f.committer.Append(f.t.Context(), events...)
	if err == nil {
		err = f.follower.WaitFor(f.t.Context(), at.Seq)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) close(ctx context.Context, ref journal.Ref) error {
	known := false
	f.follower.View(func(s *replay.State) { _, known = s.Session(ref) })
	if !known {
		return engine.ErrUnknownSession
	}
	at, err := f.committer.Append(ctx, journal.Event{Kind: journal.KindClosed, Ref: ref, At: now(), Epoch: 1, Reason: journal.ReasonAdmin})
	if err != nil {
		return err
	}
	return f.follower.WaitFor(ctx, at.Seq)
}

func now() journal.Instant { return journal.InstantOf(time.Now()) }

// ref is a made-up one that begins with the bytes given.
func ref(first ...byte) (r journal.Ref) {
	copy(r[:], first)
	r[15] = 1
	return r
}

func created(r journal.Ref, label string) journal.Event {
	return journal.Event{Kind: journal.KindCreated, Ref: r, At: now(), Created: &journal.Created{
		Source: journal.SourceClient, ID: journal.Sealed("sealed"), Key: "k1", Tenant: journal.TenantID{7}, Label: label,
		Principal: "token:ci", Initialize: json.RawMessage(`{"clientInfo":{"name":"probe","version":"9"},"capabilities":{"roots":{}}}`),
		Protocol: "2025-11-25", Timeout: 30 * time.Minute, CreatedAt: now(), LastAccess: now(),
	}}
}

func accessed(r journal.Ref, number uint64) journal.Event {
	return journal.Event{Kind: journal.KindAccessed, Ref: r, At: now(), Call: journal.Call{
		Number: number, Method: "tools/call", Tool: "n8n_list_workflows", Outcome: journal.OutcomeOK, Duration: 12 * time.Millisecond,
	}}
}
