package replay_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fataler is what testing.T and rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func openPlain(t fataler, m journal.Message) *journal.Batch {
	t.Helper()
	b, err := replaytest.Opener{}.Open(m.Data)
	if err != nil {
		t.Fatalf("open message %d: %v", m.Seq, err)
	}
	return b
}

func apply(t fataler, s *replay.State, messages ...journal.Message) {
	t.Helper()
	for _, m := range messages {
		if err := s.Apply(m, openPlain(t, m)); err != nil {
			t.Fatalf("apply message %d: %v", m.Seq, err)
		}
	}
}

// verdicts applies a message and returns what became of its events.
func verdicts(t fataler, s *replay.State, m journal.Message) (out []replay.Refusal) {
	t.Helper()
	err := s.ApplyFunc(m, openPlain(t, m), func(i int, why replay.Refusal) {
		if i != len(out) {
			t.Fatalf("verdict on event %d where %d was due", i, len(out))
		}
		out = append(out, why)
	})
	if err != nil {
		t.Fatalf("apply message %d: %v", m.Seq, err)
	}
	return out
}

func sessionsOf(s *replay.State) []replay.Session { return slices.Collect(s.All()) }

func compareSessions(got, want replay.Session) string {
	if len(got.Subscriptions) == 0 {
		got.Subscriptions = nil
	}
	if reflect.DeepEqual(got, want) {
		return ""
	}
	return fmt.Sprintf("got  %+v\nwant %+v", got, want)
}
