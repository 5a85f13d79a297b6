// Package journal holds the facts that Dormouse keeps: the names of sessions, the events about them,
// the batches in which events are stored, and the wire form of both.
//
// The vocabulary, from the outside in:
//
//   - A session is one MCP client's session, named in memory by its [SessionID], a bearer-like secret,
//     and everywhere else by its [Ref].
//   - An [Event] is one fact about one session, or one fact for the record (a replica started).
//   - A [Batch] is what one writer committed together: one message of the stream. Its [Header] can be
//     read, and the chain of batches verified, without any key.
//   - A [Position] names an event for ever: the sequence of its batch in the stream and its index there.
//
// The package knows no NATS, no HTTP and no logger. It does no I/O. Rooms below it store batches
// (journal/jetstream, journal/memory), commit them (journal/commit) and seal them (journal/seal).
package journal
