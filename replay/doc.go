// Package replay turns the journal into state. [State.Apply] is the fold: a pure function of the stream,
// the same for an event that was just written and for one that is replayed years later. A [Follower]
// keeps a State at the tail of a stream.
//
// # Who decides
//
// Any replica may append anything; the order of the log is the arbiter. For each event the fold says
// accepted, or names a [Refusal] and changes nothing. docs/adr/0002-the-log-order-is-the-arbiter.md has
// the reasons. The rules, beside those of the architecture page's table:
//
//   - Journal time is the running maximum of the stream's own timestamps. It is the only clock.
//   - An access counts as made at its writer's time, but never after the journal time of its batch and
//     never more than [AccessLag] before it, so that no replica's wrong clock keeps a session alive or
//     kills it. The last access never moves backwards.
//   - Epoch zero in opened, accessed and touched means "under no binding in particular" and is not checked.
//     Any other epoch older than the session's own makes an event void.
//   - A bound event with an upstream session is a record if its epoch is the current one, and must come
//     from the replica that claimed that epoch, once. At the next epoch it is claim and record in one.
//   - An expired event must name the last access, and the session must have timed out at journal time:
//     a replica whose clock is ahead expires nothing early.
//   - An ended ref is remembered for the longest timeout seen so far plus [EndedMargin]. An import whose
//     last access is not after the end of some forgotten ref is refused, because nobody can tell any more
//     whether that session had ended. So nothing ended comes back, however late it is brought.
//
// # What is checked
//
// Every Apply checks that the batch belongs to this journal, follows its predecessor in the stream and in
// its writer's chain, and that its basis names the history that was folded here. What does not hold is a
// [*DamageError] or a [*journal.GapError], both journal.ErrDamaged, and leaves the state as it was.
package replay
