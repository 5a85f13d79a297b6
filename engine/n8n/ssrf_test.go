package n8n_test

import (
	"errors"
	"net"
	"testing"

	"github.com/dormouse-mcp/dormouse/engine/n8n"
)

// A harmless name that resolves to any of these is not connected to, whatever form the address has: the last place where a
// tenant's URL can be stopped. At create and restore nothing is resolved; see TestSSRFAtCreateAndRestore of the daemon.
func TestSSRFAtDial(t *testing.T) {
	for addr, least := range map[string]n8n.Policy{ // the least policy that would connect; 0 = none
		"127.0.0.1":              n8n.Moderate,
		"::1":                    n8n.Moderate,
		"::ffff:127.0.0.1":       n8n.Moderate,
		"64:ff9b::7f00:1":        n8n.Moderate,
		"2002:7f00:1::":          n8n.Moderate,
		"10.0.0.1":               n8n.Permissive,
		"172.16.0.1":             n8n.Permissive,
		"192.168.0.1":            n8n.Permissive,
		"100.64.0.1":             n8n.Permissive,
		"fd12:3456::1":           n8n.Permissive,
		"::ffff:10.0.0.1":        n8n.Permissive,
		"64:ff9b::a00:1":         n8n.Permissive,
		"2002:a00:1::1":          n8n.Permissive,
		"::10.0.0.1":             n8n.Permissive,
		"169.254.169.254":        0,
		"100.100.100.200":        0,
		"168.63.129.16":          0,
		"192.0.0.192":            0,
		"fd00:ec2::254":          0,
		"fe80::1":                0,
		"::ffff:169.254.169.254": 0,
		"64:ff9b::a9fe:a9fe":     0,
		"64:ff9b:1::a9fe:a9fe":   0,
		"2002:a9fe:a9fe::1":      0,
		"2001:0:a9fe:a9fe::1":    0,
		"::169.254.169.254":      0,
		"0.0.0.0":                0,
		"::":                     0,
		"255.255.255.255":        0,
		"224.0.0.1":              0,
		"ff02::1":                0,
	} {
		t.Run(addr, func(t *testing.T) {
			resolver := resolverTo(t, addr)
			for p := n8n.Strict; p <= n8n.Permissive; p++ {
				if least != 0 && p >= least {
					continue // would be connected to
				}
				d := p.Dialer()
				d.Resolver = resolver
				conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("rebind.example.com", "1"))
				if !errors.Is(err, n8n.ErrAddressRefused) {
					t.Errorf("%s: %v, %v", p, conn, err)
				}
			}
		})
	}
}
