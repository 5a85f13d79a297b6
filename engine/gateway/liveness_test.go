package gateway

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestWrites(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, hard := range []bool{false, true} {
		c, err := dialWarily(&net.Dialer{})(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		read := make(chan struct{})
		go func() { // as net/http has a reader on every idle connection
			defer close(read)
			_, _ = io.ReadAll(c)
		}()
		if hard { // unread data makes Close a reset
			_ = peer.(*net.TCPConn).SetLinger(0)
		}
		if err := peer.Close(); err != nil {
			t.Fatal(err)
		}
		<-read
		if _, err := c.Write([]byte("b")); err == nil || !hard && !errors.Is(err, errHungUp) {
			t.Errorf("hard %v: a write to a peer that has gone: %v", hard, err)
		}
	}
}
