package daemon

import "golang.org/x/sys/unix"

// shield keeps this process's environment and memory from other processes of its user, child processes of an upstream
// above all: what is in /proc/PID belongs to root from now on. It also means that there are no core dumps.
func shield() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
