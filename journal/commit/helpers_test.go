package commit_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a committer over a memory journal.
type rig struct {
	*commit.Committer

	stream *memory.Journal
	writer journal.WriterID
}

func newRig(t *testing.T, change func(*commit.Options)) *rig {
	t.Helper()
	r := &rig{stream: memory.New(), writer: journal.NewWriterID()}
	o := commit.Options{Port: r.stream, Encoder: journaltest.Codec{}, Journal: r.stream.ID(), Writer: r.writer}
	if change != nil {
		change(&o)
	}
	c, err := commit.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Committer = c
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		_ = c.Close(ctx)
	})
	return r
}

// end closes the committer and returns the whole history, checked.
func (r *rig) end(t *testing.T) *journaltest.History {
	t.Helper()
	if err := r.Close(t.Context()); err != nil {
		t.Fatalf("close: %v", err)
	}
	return r.history(t)
}

func (r *rig) history(t *testing.T) *journaltest.History {
	t.Helper()
	h, err := journaltest.ReadHistory(t.Context(), r.stream, journaltest.Codec{}, r.stream.ID())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// event returns an access numbered n.
func event(n int) journal.Event {
	return journal.Event{
		Kind: journal.KindAccessed, Ref: journal.Ref{1, byte(n), byte(n >> 8), byte(n >> 16)}, At: journal.Instant(1 + n),
		Call: journal.Call{Number: uint64(n), Method: "tools/call", Tool: "list_workflows", Outcome: journal.OutcomeOK},
	}
}

// numbers returns the events' numbers, batch by batch.
func numbers(h *journaltest.History) [][]int {
	var all [][]int
	for _, b := range h.Batches {
		var of []int
		for _, e := range b.Events {
			of = append(of, int(e.Call.Number))
		}
		all = append(all, of)
	}
	return all
}

// faults returns an injector that deals out the given faults, one a publish, then none.
func faults(list ...memory.Fault) func(journal.WriterID) memory.Fault {
	return func(journal.WriterID) memory.Fault {
		if len(list) == 0 {
			return memory.Fault{}
		}
		f := list[0]
		list = list[1:]
		return f
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
