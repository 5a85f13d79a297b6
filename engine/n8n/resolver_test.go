package n8n_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// resolverTo returns a resolver for which every name has one address, through a real name server on
// loopback.
func resolverTo(t *testing.T, addr string) *net.Resolver {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answerDNS(conn, netip.MustParseAddr(addr))
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}
}

// answerDNS answers one question.
func answerDNS(conn net.Conn, addr netip.Addr) {
	defer func() { _ = conn.Close() }()
	var size uint16
	if binary.Read(conn, binary.BigEndian, &size) != nil {
		return
	}
	packet := make([]byte, size)
	if binary.Read(conn, binary.BigEndian, packet) != nil {
		return
	}
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || len(m.Questions) == 0 {
		return
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	switch {
	case q.Type == dnsmessage.TypeA && addr.Is4():
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && addr.Is6():
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
	}
	packed, err := m.Pack()
	if err != nil {
		return
	}
	_ = binary.Write(conn, binary.BigEndian, uint16(len(packed)))
	_ = binary.Write(conn, binary.BigEndian, packed)
}
