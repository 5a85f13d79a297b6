package gateway

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// errHungUp is the error of a write to a peer that had closed the connection before. Nothing was written.
var errHungUp = errors.New("the peer has closed the connection")

// wary is a connection that looks whether its peer is still there before it writes. A server that has crashed or
// been restarted leaves dead connections in the pool; a request that is written to one cannot be told from one that
// broke off while it was executed, but one that was never written is simply sent on another connection.
type wary struct {
	net.Conn

	raw syscall.RawConn
}

// Write fails with errHungUp, before it writes anything, if the peer has gone.
func (w wary) Write(p []byte) (int, error) {
	if hungUp(w.raw) {
		return 0, errHungUp
	}
	return w.Conn.Write(p)
}

// dialWarily makes the connections of d wary where that is possible.
func dialWarily(d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if s, ok := conn.(syscall.Conn); ok {
			if raw, err := s.SyscallConn(); err == nil {
				return wary{conn, raw}, nil
			}
		}
		return conn, nil
	}
}
