// Package commit appends events to a journal durably, exactly once and in large batches.
//
// A [Committer] is one writer. It has one batch in flight; all events that wait when the batch before has
// come back go into the next one (group commit), so that an idle journal answers after one publish and a
// busy one packs up to a thousand events into each. No lifecycle event ever waits for a timer.
//
// Events are committed in the order in which they were handed over, whether by Append (the caller waits
// until they are durable) or by Post (accesses: nobody waits).
//
// # The way of a batch
//
//	                      ┌── refused by the encoder: halved until the bad event stands alone
//	queue ── freeze ── encode ── publish ──┬── stored: its callers get their positions
//	             ▲                 ▲       ├── unavailable, and no attempt is in doubt: callers get
//	             │                 │       │   ErrUnavailable, accesses return to the queue
//	             │                 ├───────┼── in doubt: the same bytes again, after a pause
//	             │                 │       └── conflict: the last message on the subject tells
//	             │                 │             ├── these bytes: stored
//	             │                 ├─────────────┼── the batch before, or trimmed away: again
//	             │                 └─────────────┼── an older one: again, for the port's patience
//	             └── nothing else goes out       └── anything else: the writer is done for
//	                 until this one is settled
//
// A batch in doubt is never given up, because a late copy of it may still be stored; what its callers may
// do is stop waiting, and then they get ErrOutcomeUnknown.
package commit
