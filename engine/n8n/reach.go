package n8n

import "net/netip"

// reach says from where an address can be reached, from the most harmless on. Of two it is the greater
// that counts.
type reach uint8

const (
	reachPublic reach = iota + 1
	reachLoopback
	reachPrivate
	reachNever
)

func (r reach) String() string {
	switch r {
	case reachPublic:
		return "a public address"
	case reachLoopback:
		return "a loopback address"
	case reachPrivate:
		return "a private address"
	default:
		return "a metadata, link-local, multicast, broadcast, unspecified or reserved address"
	}
}

// block is a range of addresses of one reach.
type block struct {
	prefix netip.Prefix
	reach  reach
}

// blocks lists, the narrower before the wider, what is not simply public: the registries of special-purpose
// addresses (RFC 6890) and the fixed addresses of clouds' metadata services, some of which lie in
// public or private ranges.
//
//nolint:gochecknoglobals // a constant table
var blocks = []block{
	never("168.63.129.16/32"),   // Azure
	never("100.100.100.200/32"), // Alibaba Cloud
	never("0.0.0.0/8"),          // "this network"; Linux takes 0.0.0.0 for loopback
	private("10.0.0.0/8"),
	private("100.64.0.0/10"), // carrier-grade NAT
	{netip.MustParsePrefix("127.0.0.0/8"), reachLoopback},
	never("169.254.0.0/16"), // link local, and most metadata services
	private("172.16.0.0/12"),
	never("192.0.0.0/24"), // IETF protocols, and Oracle's metadata service
	never("192.0.2.0/24"), // documentation
	never("192.88.99.0/24"),
	private("192.168.0.0/16"),
	private("198.18.0.0/15"), // benchmarks
	never("198.51.100.0/24"),
	never("203.0.113.0/24"),
	never("224.0.0.0/3"), // multicast, reserved, broadcast

	{netip.MustParsePrefix("::1/128"), reachLoopback},
	never("::/128"),
	never("64:ff9b:1::/48"), // NAT64 of local use: where the IPv4 address stands is not known
	never("100::/8"),
	never("2001:2::/48"),
	never("2001:10::/28"),
	never("2001:20::/28"),
	never("2001:db8::/32"),
	never("3fff::/20"),
	never("fd00:ec2::/32"),   // AWS
	never("fd20:ce::/32"),    // Google Cloud
	never("fd00:42::42/128"), // Scaleway
	private("fc00::/7"),
}

func never(prefix string) block   { return block{netip.MustParsePrefix(prefix), reachNever} }
func private(prefix string) block { return block{netip.MustParsePrefix(prefix), reachPrivate} }

// reachOf judges an address. One that carries an IPv4 address in it is judged by that one too, since a
// router on the way may unwrap it.
func reachOf(addr netip.Addr) reach {
	if !addr.IsValid() || addr.Zone() != "" {
		return reachNever
	}
	addr = addr.Unmap()
	for _, b := range blocks {
		if b.prefix.Contains(addr) {
			return b.reach
		}
	}
	if addr.Is4() {
		return reachPublic
	}
	return reachOf6(addr)
}

// reachOf6 judges an IPv6 address outside of all blocks.
func reachOf6(addr netip.Addr) reach {
	b := addr.As16()
	v4 := func(at int) reach { return reachOf(netip.AddrFrom4([4]byte(b[at : at+4]))) }
	switch {
	case in(addr, "::/96"), // IPv4-compatible
		in(addr, "::ffff:0:0:0/96"), // IPv4-translated
		in(addr, "64:ff9b::/96"):    // NAT64
		return v4(12)
	case in(addr, "2002::/16"): // 6to4
		return max(v4(2), isatap(b))
	case in(addr, "2001::/32"): // Teredo: the server, and the client with its bits inverted
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		return max(v4(4), reachOf(client))
	case in(addr, "2000::/3"):
		return isatap(b)
	default:
		return reachNever // nothing else is global unicast
	}
}

// isatap judges the IPv4 address in an ISATAP interface identifier; without one the address is public.
func isatap(b [16]byte) reach {
	if b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		return reachOf(netip.AddrFrom4([4]byte(b[12:])))
	}
	return reachPublic
}

func in(addr netip.Addr, prefix string) bool { return netip.MustParsePrefix(prefix).Contains(addr) }
