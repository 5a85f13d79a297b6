// Package replaytest helps to test what folds and reads journals: a stream in memory whose faults are the
// test's to choose, a plain encoding of batches (with no encryption, never for real data), and a
// generator of plausible histories.
package replaytest
