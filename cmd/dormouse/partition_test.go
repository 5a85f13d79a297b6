package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// cable leads to a NATS server and can be cut: then nothing comes through, and nobody is told.
type cable struct {
	to       string
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	whole chan struct{} // closed while it is
	conns []net.Conn
}

func newCable(t *testing.T, url string) *cable {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{to: strings.TrimPrefix(url, "nats://"), listener: l, whole: make(chan struct{})}
	close(c.whole)
	c.work.Go(c.accept)
	t.Cleanup(func() {
		_ = l.Close()
		c.mend()
		c.mu.Lock()
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.mu.Unlock()
		c.work.Wait()
	})
	return c
}

func (c *cable) url() string { return "nats://" + c.listener.Addr().String() }

func (c *cable) accept() {
	for {
		from, err := c.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", c.to) //nolint:noctx // loopback
		if err != nil {
			_ = from.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, from, to)
		c.mu.Unlock()
		c.work.Go(func() { c.carry(from, to) })
		c.work.Go(func() { c.carry(to, from) })
	}
}

func (c *cable) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	room := make([]byte, 32<<10)
	for {
		n, err := from.Read(room)
		c.mu.Lock()
		whole := c.whole
		c.mu.Unlock()
		<-whole
		if _, werr := to.Write(room[:n]); werr != nil || errors.Is(err, io.EOF) || err != nil {
			return
		}
	}
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = make(chan struct{})
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

// TestOwnerIsCutOff: an owner that no longer reaches NATS stops serving, says so on /readyz, and is taken over; when it
// reaches NATS again it forwards to whoever did.
func TestOwnerIsCutOff(t *testing.T) {
	t.Parallel()
	f, acme := newFleet(t, 1), newTenant(t)
	f.fence = "5s"
	c := newCable(t, f.url)
	a := f.prepare()
	a.args = append(a.args, "--nats-url", c.url())
	a.start()
	f.awaitReady(a)
	b := f.add()
	s := acme.open(t, a)
	acme.mustCall(t, a, s)
	c.cut()
	f.await("it says that it is cut off", func() bool {
		status, _ := fetchText(t.Context(), "http://"+a.listen+"/readyz")
		return status == http.StatusServiceUnavailable
	})
	acme.mustCall(t, b, s)
	status, text, h, err := acme.send(t.Context(), http.MethodPost, a.url(), s, callMessage())
	if err != nil || status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("the replica that is cut off: %d %s %v, want 503", status, text, err)
	}
	c.mend()
	f.await("it is ready again", func() bool {
		status, _ := fetchText(t.Context(), "http://"+a.listen+"/readyz")
		return status == http.StatusOK
	})
	began := time.Now()
	acme.mustCall(t, a, s)
	t.Logf("answered %v after it was ready again", time.Since(began).Round(time.Millisecond))
	for ref, epoch := range epochs(t, b) {
		if epoch < 2 {
			t.Errorf("session %s is at epoch %d: nobody took it over", ref, epoch)
		}
	}
}
