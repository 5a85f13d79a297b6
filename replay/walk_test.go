package replay_test

import (
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

func TestWalkOfNothing(t *testing.T) {
	s := replay.NewState()
	if refs := s.AppendRefs([]journal.Ref{{1}}); len(refs) != 1 || s.Oldest() != 0 {
		t.Errorf("%v, %v", refs, s.Oldest())
	}
}
