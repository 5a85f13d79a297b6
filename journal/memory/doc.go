// Package memory is a journal in process: what journal/jetstream is on a server, without one, and with
// faults to order. It is for tests and for trying things out; nothing survives the process.
//
// It blocks on channels alone, so that it works in the bubbles of testing/synctest.
package memory
