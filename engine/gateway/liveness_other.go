//go:build !unix

package gateway

import "syscall"

// hungUp cannot tell here.
func hungUp(syscall.RawConn) bool { return false }
