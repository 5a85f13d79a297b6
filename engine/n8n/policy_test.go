package n8n_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

func TestParsePolicy(t *testing.T) {
	for p := n8n.Strict; p <= n8n.Permissive; p++ {
		text, _ := p.MarshalText()
		var back n8n.Policy
		if err := back.UnmarshalText(text); err != nil || back != p {
			t.Errorf("%s: %v, %v", p, back, err)
		}
	}
	for _, s := range []string{"", "none", "off", "strict ", "policy(7)"} {
		if p, err := n8n.ParsePolicy(s); err == nil {
			t.Errorf("ParsePolicy(%q) = %v", s, p)
		}
	}
	if p, err := n8n.ParsePolicy("Moderate"); err != nil || p != n8n.Moderate {
		t.Errorf("any case: %v, %v", p, err)
	}
}

// The least policy that lets an address through; 0 = none.
func TestPolicyAddresses(t *testing.T) {
	const never = 0
	for _, tt := range []struct {
		addr  string
		least n8n.Policy
	}{
		{"8.8.8.8", n8n.Strict},
		{"1.1.1.1", n8n.Strict},
		{"100.63.255.255", n8n.Strict},
		{"100.128.0.0", n8n.Strict},
		{"172.15.255.255", n8n.Strict},
		{"172.32.0.0", n8n.Strict},
		{"223.255.255.255", n8n.Strict},
		{"2606:4700::1111", n8n.Strict},
		{"2a00:1450:4001::200e", n8n.Strict},
		{"::ffff:8.8.8.8", n8n.Strict},
		{"64:ff9b::808:808", n8n.Strict},
		{"2002:808:808::1", n8n.Strict},

		{"127.0.0.1", n8n.Moderate},
		{"127.255.255.254", n8n.Moderate},
		{"::1", n8n.Moderate},
		{"::ffff:127.0.0.1", n8n.Moderate},
		{"::ffff:7f00:1", n8n.Moderate},
		{"::127.0.0.1", n8n.Moderate},        // compatible
		{"::ffff:0:127.0.0.1", n8n.Moderate}, // translated
		{"64:ff9b::7f00:1", n8n.Moderate},    // NAT64
		{"2002:7f00:1::", n8n.Moderate},      // 6to4

		{"10.0.0.1", n8n.Permissive},
		{"172.16.0.1", n8n.Permissive},
		{"172.31.255.255", n8n.Permissive},
		{"192.168.1.1", n8n.Permissive},
		{"100.64.0.1", n8n.Permissive},
		{"198.18.0.1", n8n.Permissive},
		{"fd12:3456::1", n8n.Permissive},
		{"fc00::1", n8n.Permissive},
		{"::ffff:10.0.0.1", n8n.Permissive},
		{"::10.0.0.1", n8n.Permissive},
		{"64:ff9b::a00:1", n8n.Permissive},
		{"2002:a00:1::1", n8n.Permissive},
		{"2001:0:808:808:0:0:f5ff:fffe", n8n.Permissive},    // Teredo: the client is 10.0.0.1
		{"2001:0:a00:1::f7f7:f7f7", n8n.Permissive},         // Teredo: the server is 10.0.0.1
		{"2606:4700::5efe:10.0.0.1", n8n.Permissive},        // ISATAP
		{"2606:4700::200:5efe:192.168.0.1", n8n.Permissive}, // ISATAP, universal bit set
		{"2001:0:808:808:0:0:f7f7:f7f7", n8n.Strict},        // Teredo between public addresses
		{"2606:4700::5efe:8.8.8.8", n8n.Strict},             //

		{"169.254.169.254", never},
		{"169.254.170.2", never},
		{"169.254.0.1", never},
		{"100.100.100.200", never},
		{"168.63.129.16", never},
		{"192.0.0.192", never},
		{"fd00:ec2::254", never},
		{"fd00:ec2::23", never},
		{"fd20:ce::254", never},
		{"fd00:42::42", never},
		{"fe80::1", never},
		{"fe80::a9fe:a9fe", never},
		{"::ffff:169.254.169.254", never},
		{"::ffff:a9fe:a9fe", never},
		{"::169.254.169.254", never},
		{"::ffff:0:169.254.169.254", never},
		{"64:ff9b::a9fe:a9fe", never},
		{"64:ff9b:1::a9fe:a9fe", never},
		{"64:ff9b:1::808:808", never},
		{"2002:a9fe:a9fe::1", never},
		{"2001:0:a9fe:a9fe::1", never},
		{"2001:0:808:808::5601:5601", never}, // Teredo: the client is 169.254.169.254
		{"2606:4700::5efe:169.254.169.254", never},
		{"64:ff9b::6464:64c8", never}, // 100.100.100.200
		{"0.0.0.0", never},
		{"0.1.2.3", never},
		{"::", never},
		{"::ffff:0.0.0.0", never},
		{"224.0.0.1", never},
		{"239.255.255.255", never},
		{"240.0.0.1", never},
		{"255.255.255.255", never},
		{"192.0.2.1", never},
		{"198.51.100.1", never},
		{"203.0.113.1", never},
		{"192.88.99.1", never},
		{"ff02::1", never},
		{"ff0e::1", never},
		{"fec0::1", never},
		{"2001:db8::1", never},
		{"3fff::1", never},
		{"100::1", never},
		{"5f00::1", never},
		{"4000::1", never},
		{"fe80::1%eth0", never},
		{"::1%lo", never},
	} {
		addr := netip.MustParseAddr(tt.addr)
		for p := n8n.Policy(0); p <= n8n.Permissive+1; p++ {
			want := tt.least != never && max(p, n8n.Strict) >= tt.least
			if p > n8n.Permissive { // no policy at all
				want = tt.least == n8n.Strict
			}
			err := p.Check(addr)
			if (err == nil) != want || err != nil && !errors.Is(err, n8n.ErrAddressRefused) {
				t.Errorf("%s: Check(%s) = %v; allowed: want %t", p, tt.addr, err, want)
			}
			err = p.Control(t.Context(), "tcp4", netip.AddrPortFrom(addr, 80).String(), nil)
			if (err == nil) != want {
				t.Errorf("%s: Control(%s) = %v; allowed: want %t", p, tt.addr, err, want)
			}
		}
	}
	if err := n8n.Permissive.Check(netip.Addr{}); err == nil {
		t.Error("the zero address is let through")
	}
}

func TestPolicyControlRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, tt := range []struct{ network, address string }{
		{"unix", "/run/n8n.sock"}, {"udp", "8.8.8.8:53"}, {"tcp", "example.com:80"}, {"tcp", ""}, {"", "8.8.8.8:80"},
	} {
		if err := n8n.Permissive.Control(t.Context(), tt.network, tt.address, nil); !errors.Is(err, n8n.ErrAddressRefused) {
			t.Errorf("%s %s: %v", tt.network, tt.address, err)
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	for _, tt := range []struct {
		url  string
		want [3]bool // strict, moderate, permissive
	}{
		{"https://n8n.example.com", [3]bool{true, true, true}},
		{"http://n8n.example.com:5678/base", [3]bool{true, true, true}},
		{"http://8.8.8.8", [3]bool{true, true, true}},
		{"http://n8n:5678", [3]bool{true, true, true}}, // judged when it is dialed
		{"http://localhost:5678", [3]bool{false, true, true}},
		{"http://LOCALHOST.", [3]bool{false, true, true}},
		{"http://n8n.localhost", [3]bool{false, true, true}},
		{"http://127.0.0.1", [3]bool{false, true, true}},
		{"http://[::1]", [3]bool{false, true, true}},
		{"http://[::ffff:127.0.0.1]", [3]bool{false, true, true}},
		{"http://10.1.2.3", [3]bool{false, false, true}},
		{"http://[fd00::1]", [3]bool{false, false, true}},
		{"http://169.254.169.254", [3]bool{}},
		{"http://[::ffff:169.254.169.254]", [3]bool{}},
		{"http://[64:ff9b::169.254.169.254]", [3]bool{}},
		{"http://metadata.google.internal", [3]bool{}},
		{"http://METADATA.google.internal./computeMetadata/v1", [3]bool{}},
		{"http://x.metadata.google.internal", [3]bool{}},
		{"http://metadata", [3]bool{}},
		{"http://instance-data", [3]bool{}},
		{"http://0.0.0.0:5678", [3]bool{}},
	} {
		for i, p := range []n8n.Policy{n8n.Strict, n8n.Moderate, n8n.Permissive} {
			err := p.Validate(engine.InstanceContext{N8nAPIURL: tt.url, N8nAPIKey: "key"})
			if (err == nil) != tt.want[i] || err != nil && !errors.Is(err, n8n.ErrAddressRefused) {
				t.Errorf("%s: Validate(%s) = %v; want allowed %t", p, tt.url, err, tt.want[i])
			}
		}
	}
}

// A name that is harmless when the session is created and resolves to something else later is stopped at
// the connection.
func TestDialerStopsRebinding(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := n8n.Strict.Dialer().DialContext(ctx, "tcp", net.JoinHostPort("localhost", port))
	if !errors.Is(err, n8n.ErrAddressRefused) {
		t.Fatalf("strict: %v, %v", conn, err)
	}
	conn, err = n8n.Moderate.Dialer().DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("moderate: %v", err)
	}
	_ = conn.Close()
}
