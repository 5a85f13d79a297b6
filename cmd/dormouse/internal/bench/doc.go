// Package bench measures Dormouse beside its naive rivals, in the same run, on the same machine.
//
// Absolute figures say more about the machine than about the program, so every benchmark runs its rivals
// interleaved with Dormouse, round by round, and reports medians and ratios.
package bench
