//go:build e2e

package e2e

import "syscall"

// ownGroup puts a process into a group of its own, which dies with the suite however that ends.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
