package journal_test

import (
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// A contradiction is believed after the patience, if it was not settled meanwhile and nobody had stopped asking.
func TestDoubt(t *testing.T) {
	t.Parallel()
	type answer struct {
		after time.Duration // the one before
		fine  bool
		want  bool
	}
	const patience = 20 * time.Second
	for name, c := range map[string]struct {
		patience time.Duration
		answers  []answer
	}{
		"once":             {patience, []answer{{0, false, false}}},
		"for long enough":  {patience, []answer{{0, false, false}, {10 * time.Second, false, false}, {10 * time.Second, false, true}, {1, false, true}}},
		"settled":          {patience, []answer{{0, false, false}, {15 * time.Second, true, false}, {5 * time.Second, false, false}, {19 * time.Second, false, false}, {time.Second, false, true}}},
		"nobody had asked": {patience, []answer{{0, false, false}, {21 * time.Second, false, false}, {time.Hour, false, false}, {patience, false, true}}},
		"one server":       {0, []answer{{0, false, true}}},
		"a short patience": {time.Millisecond, []answer{{0, false, false}, {5 * time.Second, false, true}, {6 * time.Second, false, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d journal.Doubt
			now := time.Unix(1, 0)
			for i, a := range c.answers {
				now = now.Add(a.after)
				if a.fine {
					d.Settle()
				} else if got := d.Ripe(now, c.patience); got != a.want {
					t.Errorf("answer %d: believed: %v", i, got)
				}
			}
		})
	}
}
