package replay_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// A process that takes its own batches from its committer folds the same state as one that opens what was stored.
func TestOwnBatchesFoldAsStoredOnes(t *testing.T) {
	stream, keys, writer := memory.New(), seal.GenerateKeyring(), journal.NewWriterID()
	var committer *commit.Committer
	taken := 0
	own := func(w journal.WriterID, number uint64, digest journal.Digest) ([]journal.Event, bool) {
		events, ok := committer.Recent(w, number, digest)
		if ok {
			taken++
		}
		return events, ok
	}
	one := follow(t, replay.FollowOptions{Source: stream, Opener: seal.NewBatchOpener(keys), Journal: stream.ID(), Own: own})
	other := follow(t, replay.FollowOptions{Source: stream, Opener: seal.NewBatchOpener(keys), Journal: stream.ID()})

	sealer, err := seal.NewBatchSealer(keys, writer)
	if err != nil {
		t.Fatal(err)
	}
	committer, err = commit.New(commit.Options{
		Port: stream, Encoder: sealer, Journal: stream.ID(), Writer: writer, Basis: one.Basis,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = committer.Close(t.Context()) })

	begin := created(timeout(30*time.Minute+1500*time.Microsecond), func(c *journal.Created) {
		c.Initialize = json.RawMessage{}
		c.Context = nil
	})
	begin.Created.CreatedAt = journal.InstantOf(time.Now())
	events := []journal.Event{
		begin, bound(1, "a", "upstream"), accessed(1),
		changed(1, func(c *journal.Changed) { c.Subscribed = []string{}; c.LogLevel = "info" }),
		erased("k9"),
	}
	for n := range 50 {
		batch := events
		if n > 0 {
			batch = []journal.Event{accessed(1), {Kind: journal.KindTouched, Ref: replaytest.Ref(n)}}
		}
		for i := range batch {
			batch[i].At = journal.InstantOf(time.Now())
		}
		at, err := committer.Append(t.Context(), batch...)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []*replay.Follower{one, other} {
			if err := f.WaitFor(t.Context(), at.Seq); err != nil {
				t.Fatal(err)
			}
		}
		if digestOf(one) != digestOf(other) {
			t.Fatalf("the states differ after message %d", at.Seq)
		}
	}
	one.View(func(s *replay.State) {
		if got := s.Stats().Accepted; got[journal.KindBound] != 1 || got[journal.KindAccessed] != 50 || s.Len() != 1 {
			t.Fatalf("%+v", got)
		}
	})
	t.Logf("%d of 50 batches came from the committer", taken)
}
