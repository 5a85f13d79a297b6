// Package jetstream keeps a journal in NATS JetStream, on a cluster or on a server embedded in the process.
// It is the only room that knows NATS: it implements commit.Port, replay.Source and seal.KeyStore.
//
// A journal is two streams. <PREFIX>_BATCHES holds batches, one subject a writer (<prefix>.batch.<writer>);
// <PREFIX>_KEYS holds wrapped tenant keys, one subject a key (<prefix>.keys.<tenant>.<key>.<wrap>). Both
// carry the journal's ID in their metadata.
package jetstream
