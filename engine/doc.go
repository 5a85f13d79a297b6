// Package engine owns the lifecycle of sessions: it creates, finds, wakes, hibernates, expires and closes
// them, within limits, and exports and restores them in the seed's form.
//
// The engine keeps no table of sessions. What a session is, and whether it is at all, is the word of the
// fold ([Table]): the engine appends an event, waits until it is folded, and reads what became of it. Its
// own state is what no journal can hold, and cannot disagree with the fold about any session:
//
//   - the runtimes of live sessions, and who holds a [Lease] on which session just now;
//   - reservations: creates and restores under way, which count towards the limits;
//   - when the stream was last out of reach.
//
// A killed process therefore loses nothing of the engine: the next one folds the journal, and every
// session in it is dormant until its next request wakes it.
//
// Clocks: the engine stamps events and judges expiry by its own clock; which of two racing events counts
// is decided by the order of the log alone.
package engine
