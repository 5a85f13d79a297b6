package n8n

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/dormouse-mcp/dormouse/engine"
)

// ErrAddressRefused says that the policy does not let a tenant point at that address. The client must use
// another URL, or the operator another policy. Over HTTP: 400 at create.
var ErrAddressRefused = errors.New("address refused by the URL policy")

// Policy says which addresses a tenant's URL may lead to. All policies allow http and https, and all
// refuse cloud metadata services, link-local, multicast, broadcast, unspecified and reserved addresses.
// The zero Policy judges as Strict. Safe for concurrent use.
type Policy uint8

// The policies.
const (
	Strict     Policy = iota + 1 // public unicast addresses only
	Moderate                     // and loopback
	Permissive                   // and private networks
)

// String returns the policy's name in lower case.
func (p Policy) String() string {
	switch p {
	case Strict, 0:
		return "strict"
	case Moderate:
		return "moderate"
	case Permissive:
		return "permissive"
	default:
		return fmt.Sprintf("policy(%d)", uint8(p))
	}
}

// ParsePolicy reads what String wrote, in any case.
func ParsePolicy(s string) (Policy, error) {
	for p := Strict; p <= Permissive; p++ {
		if strings.EqualFold(s, p.String()) {
			return p, nil
		}
	}
	return 0, errors.New("URL policy: want strict, moderate or permissive")
}

// MarshalText returns String's bytes.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePolicy.
func (p *Policy) UnmarshalText(text []byte) error {
	parsed, err := ParsePolicy(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// Validate checks a context as it comes with a request or out of an export: complete, every field in its
// form, and a URL that the policy does not refuse by what its host says. Nothing is resolved or dialed,
// so a name that resolves to a refused address passes here and is stopped by Control. It fails with
// ErrNoContext, ErrPartialContext, ErrInvalidContext or ErrAddressRefused; no message holds a value.
func (p Policy) Validate(ic engine.InstanceContext) error {
	if err := checkFields(&ic); err != nil {
		return err
	}
	u, err := parseURL(ic.N8nAPIURL)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidURL, err)
	}
	if u.addr.IsValid() {
		return p.Check(u.addr)
	}
	return p.checkName(u.host)
}

// checkName judges the names whose address is known without asking anybody.
func (p Policy) checkName(name string) error {
	switch {
	case isMetadataName(name):
		return fmt.Errorf("%w: the name of a cloud metadata service", ErrAddressRefused)
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		return p.check(reachLoopback)
	default:
		return nil
	}
}

func isMetadataName(name string) bool {
	switch name {
	case "metadata", "metadata.goog", "metadata.google.internal", "instance-data", "instance-data.ec2.internal",
		"metadata.tencentyun.com", "metadata.azure.internal", "metadata.packet.net", "metadata.platformequinix.com":
		return true
	default:
		return strings.HasSuffix(name, ".metadata.google.internal") || strings.HasSuffix(name, ".metadata.goog")
	}
}

// Check judges one address. It fails with ErrAddressRefused.
func (p Policy) Check(addr netip.Addr) error { return p.check(reachOf(addr)) }

func (p Policy) check(r reach) error {
	switch {
	case r == reachPublic,
		r == reachLoopback && p >= Moderate && p <= Permissive,
		r == reachPrivate && p == Permissive:
		return nil
	case r == reachNever:
		return fmt.Errorf("%w: %s", ErrAddressRefused, r)
	default:
		return fmt.Errorf("%w %q: %s", ErrAddressRefused, p, r)
	}
}

// Control refuses a connection by the address that is about to be dialed, after name resolution. Set it
// as the ControlContext of every net.Dialer that follows a tenant's URL. It fails with ErrAddressRefused.
func (p Policy) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("%w: not a TCP connection", ErrAddressRefused)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: not an IP address", ErrAddressRefused)
	}
	return p.Check(ap.Addr())
}

// Dialer returns a dialer that connects only where the policy allows. Its timeout is in effect for each
// connection; zero means none.
func (p Policy) Dialer() *net.Dialer {
	return &net.Dialer{ControlContext: p.Control}
}
