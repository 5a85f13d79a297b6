package replay

import (
	"context"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// reachEvery is how soon a leader that does not know everything yet is asked again.
const reachEvery = 200 * time.Millisecond

// Reach returns the bounds of a stream that is known to have reached need: what a replica had folded, or a snapshot
// holds. While it seems to end before that it is asked again, for as long as the source's patience; only then is the
// shorter end its answer, for the caller to call damage. Whoever compares a stream's end with what is known asks this
// way. Errors: the source's, ctx's cause.
func Reach(ctx context.Context, src Source, need journal.Seq) (journal.Bounds, error) {
	var short journal.Doubt
	for {
		b, err := src.Bounds(ctx)
		if err != nil || b.Last >= need || short.Ripe(time.Now(), src.Patience()) {
			return b, err
		}
		again := time.NewTimer(reachEvery)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return b, context.Cause(ctx)
		}
	}
}
