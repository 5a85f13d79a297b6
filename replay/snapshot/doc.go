// Package snapshot turns a replay.State into its compact, sealed form and back.
//
// A snapshot is chunks of about a megabyte and, last, a manifest: who finds a manifest finds a snapshot that was
// written to its end. Chunks hold sessions in columns (see sessions.go), ended refs, writers or erased keys; the
// manifest holds the rest of the state and the digests of all of it. docs/format.md describes every byte.
//
// Loading a snapshot and folding what follows gives the same state as folding everything, byte for byte.
package snapshot
