//go:build e2e

package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
)

// faulty is a TCP proxy between one replica and one NATS server. Each direction can stand still, as behind a network
// that loses packets one way: what is sent meanwhile arrives later, or, after cut, never.
type faulty struct {
	listener net.Listener
	target   string
	mu       sync.Mutex // guards what follows
	conns    map[net.Conn]bool
	up, down *gate // to the server, and from it
	all      sync.WaitGroup
}

// gate lets bytes through while it is open.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{opened: make(chan struct{})}
	close(g.opened)
	return g
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
		if !open {
			g.opened = make(chan struct{})
		}
	default:
		if open {
			close(g.opened)
		}
	}
}

func (g *gate) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

func newFaulty(t *testing.T, target string) *faulty {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faulty{listener: l, target: target, conns: map[net.Conn]bool{}, up: newGate(), down: newGate()}
	ctx, cancel := context.WithCancel(t.Context())
	p.all.Go(func() { p.accept(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		p.heal()
		p.cut()
		p.all.Wait()
	})
	return p
}

func (p *faulty) addr() string { return p.listener.Addr().String() }

func (p *faulty) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.all.Go(func() { p.pass(client, server, p.up) })
		p.all.Go(func() { p.pass(server, client, p.down) })
	}
}

// pass copies until either end is closed.
func (p *faulty) pass(from, to net.Conn, g *gate) {
	defer func() {
		_, _ = from.Close(), to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
		delete(p.conns, to)
	}()
	room := make([]byte, 32<<10)
	for {
		n, err := from.Read(room)
		<-g.wait()
		if _, werr := to.Write(room[:n]); err != nil || werr != nil {
			return
		}
	}
}

// heal opens both directions: what stood still arrives.
func (p *faulty) heal() {
	p.up.set(true)
	p.down.set(true)
}

// cut breaks all connections: what stood still never arrives.
func (p *faulty) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
