package snapshot_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// Whoever looks back sees what a replica had at that point, whether from the beginning or from a snapshot before it,
// and although the stream was trimmed behind that snapshot.
func TestLawTravelShowsWhatWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := t.Context()
		messages := replaytest.History(t)
		cut := rapid.IntRange(1, len(messages)).Draw(t, "cut")
		to := rapid.IntRange(1, len(messages)).Draw(t, "to")
		s := replay.NewState()
		digests := []journal.Digest{s.Digest()}
		var st memory.Snapshots
		for i, m := range messages {
			apply(t, s, m)
			digests = append(digests, s.Digest())
			if i+1 == cut {
				write(t, &st, plain{}, s)
			}
		}
		var stream replaytest.Stream
		stream.Load(messages...)
		point := audit.Point{Seq: journal.Seq(to)}
		r, err := snapshot.Restore(ctx, snapshot.RestoreOptions{
			Store: &st, Sealer: plain{}, Journal: s.Journal(), Bounds: journal.Bounds{First: 1, Last: s.Seq()},
			Before: func(m *snapshot.Manifest) bool { return point.Reached(m.Seq, m.Now) },
		})
		must(t, err)
		if r.State != nil {
			stream.Trim(journal.Seq(cut + 1))
		}
		then, err := audit.Travel(ctx, audit.TravelOptions{Source: &stream, Opener: replaytest.Opener{}, State: r.State}, point)
		must(t, err)
		if then.Seq() != point.Seq || then.Digest() != digests[to] {
			t.Fatalf("the state at %d is not what it was", to)
		}
	})
}
