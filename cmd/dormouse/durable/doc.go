// Package durable is Dormouse as a library: it opens a journal and puts engine and gateway on it. `dormouse serve` is
// made with it, too.
//
// [Open] takes a factory of servers of the official Go SDK, or any [gateway.Upstream], and gives an http.Handler whose
// MCP sessions survive the process. [OpenJournal] gives the journal alone, for an engine of sessions that are not MCP.
// Whoever keeps events elsewhere, or wants each part by itself, has [Assemble] with parts of their own.
//
// It stands under cmd because it brings adapters and interfaces together, which nothing else may: see
// docs/adr/0010-the-facade-stands-in-cmd.md. docs/library.md is the guide.
package durable
