//go:build unix

package gateway

import (
	"errors"
	"syscall"
)

// hungUp reports whether the peer of a connection has closed it, as far as that has arrived here. It reads
// nothing and may be called while somebody else reads.
func hungUp(c syscall.RawConn) bool {
	gone := false
	err := c.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = err == nil && n == 0 || errors.Is(err, syscall.ECONNRESET)
	})
	return err == nil && gone
}
