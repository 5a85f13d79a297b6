package engine

import (
	"context"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Locate returns which replica a session is bound to; false if there is no such session. It says nothing about who may
// use it, and caught up with the stream's leader before it says no. A session that was never bound has no replica.
func (e *Engine) Locate(ctx context.Context, id journal.SessionID) (journal.ReplicaID, bool, error) {
	if id == "" || len(id) > maxSessionID {
		return "", false, nil
	}
	f := e.finder()
	defer e.free(f)
	ok, err := f.find(ctx, e, id.Ref())
	return f.s.Replica, ok, err
}

// CatchUp returns once everything is folded that the stream's leader named after the call.
func (e *Engine) CatchUp(ctx context.Context) error {
	return e.o.Table.CatchUp(ctx)
}

// Mover is what a Runtime may implement to be told, before it is closed, that its session is bound to another replica
// now. It must return at once. Requests under way may end; streams should, for their clients belong elsewhere.
type Mover interface{ Moved() }
