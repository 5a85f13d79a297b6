package replay_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// The groups count each session once, also while a frozen state keeps what is gone.
func TestLawGroupsCountSessions(t *testing.T) {
	type group struct {
		tenant  journal.TenantID
		context journal.KeyID
	}
	rapid.Check(t, func(t *rapid.T) {
		s := replay.NewState()
		for i, m := range replaytest.History(t) {
			if i%5 == 0 {
				defer s.Freeze().Release()
			}
			b, err := replaytest.Opener{}.Open(m.Data)
			if err == nil {
				err = s.Apply(m, b)
			}
			if err != nil {
				t.Fatal(err)
			}
			want, got := map[group]int{}, map[group]int{}
			for one := range s.All() {
				want[group{one.Tenant, one.ContextKey}]++
			}
			for one, n := range s.Groups() {
				got[group{one.Tenant, one.ContextKey}] += n
			}
			if len(got) != len(want) {
				t.Fatalf("%v, want %v", got, want)
			}
			for g, n := range want {
				if got[g] != n {
					t.Fatalf("%v, want %v", got, want)
				}
			}
		}
	})
}
