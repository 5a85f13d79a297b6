package jetstream_test

import (
	"context"
	"net"
	"sync"
	"testing"
)

// cable is a TCP proxy that can be cut, so that nothing comes through and nobody is told, and laid to another end.
type cable struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	to    string
	whole chan struct{} // closed while it is
	conns []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l, to: to, whole: make(chan struct{})}
	close(c.whole)
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		_ = l.Close()
		c.mend()
		c.lay("")
		c.wg.Wait()
	})
	return c
}

func (c *cable) port() string {
	_, port, _ := net.SplitHostPort(c.listener.Addr().String())
	return port
}

func (c *cable) accept() {
	for {
		from, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		to := c.to
		c.mu.Unlock()
		var dialer net.Dialer
		up, err := dialer.DialContext(context.Background(), "tcp", to)
		if err != nil {
			_ = from.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, from, up)
		if c.to != to { // laid elsewhere meanwhile
			_, _ = from.Close(), up.Close()
		}
		c.mu.Unlock()
		c.wg.Go(func() { c.carry(from, up) })
		c.wg.Go(func() { c.carry(up, from) })
	}
}

func (c *cable) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		whole := c.whole
		c.mu.Unlock()
		<-whole
		if _, failed := to.Write(buf[:n]); failed != nil || err != nil {
			return
		}
	}
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.whole:
		c.whole = make(chan struct{})
	default:
	}
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.whole:
	default:
		close(c.whole)
	}
}

// lay leads it elsewhere and ends what goes through.
func (c *cable) lay(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}
