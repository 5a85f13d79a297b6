package audit_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// What an old leader does not know yet is not missing; what no leader knows is.
func TestVerifyDoubtsAnOldLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 20 * time.Second
		w, a, _ := busy(t)
		w.journal.SetPatience(patience)
		a.mark()
		a.crash()
		losses, marks := w.known()
		verify := func() *audit.Report {
			r, err := audit.Verify(t.Context(), audit.VerifyOptions{
				Source: w.journal, Opener: w.opener, Journal: w.journal.ID(), Losses: losses, Marks: marks,
			})
			w.must(err)
			return r
		}
		w.journal.Depose(3)
		time.AfterFunc(patience-time.Second, w.journal.Elect)
		if r := verify(); !r.Whole() {
			t.Fatalf("false alarm: %s", describe(r))
		}
		w.journal.Shrink(3)
		began := time.Now()
		if r := verify(); !strings.Contains(describe(r), "the stream ends before them") || time.Since(began) < patience {
			t.Errorf("after %v: %s", time.Since(began), describe(r))
		}
	})
}
