package n8n

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// ErrInvalidURL says that a URL is not one of an n8n instance. It is ErrInvalidContext too.
var ErrInvalidURL = fmt.Errorf("%w: invalid n8n URL", ErrInvalidContext)

// CanonicalURL returns the one spelling under which an n8n instance is known: scheme and host in lower
// case, an internationalized host in its ASCII form, no default port, no slash at the end. Two spellings of
// one instance give the same text, so it can be hashed to tell tenants apart. CanonicalURL of a canonical
// URL returns it unchanged.
//
// What could be read in two ways is refused rather than repaired, with ErrInvalidURL: credentials, a query
// or a fragment in the URL, host names with other characters than DNS allows, IPv4 addresses in any form
// but four decimal numbers, IPv6 zones, and paths with dot segments or escapes.
func CanonicalURL(raw string) (string, error) {
	u, err := parseURL(raw)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalidURL, err)
	}
	return u.String(), nil
}

// instanceURL is a URL taken apart, each part canonical.
type instanceURL struct {
	scheme string
	host   string     // a name, or an address as netip prints it
	addr   netip.Addr // of a host that is an address
	port   uint16     // 0: the scheme's own
	path   string     // empty, or "/a/b"
}

func (u instanceURL) String() string { return u.scheme + "://" + u.hostPort() + u.path }

func (u instanceURL) hostPort() string {
	host := u.host
	if u.addr.Is6() {
		host = "[" + host + "]"
	}
	if u.port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(int(u.port))
}

func parseURL(raw string) (instanceURL, error) {
	if err := checkRaw(raw); err != nil {
		return instanceURL{}, err
	}
	// Errors of url.Parse quote their input, which may hold a password: they are not passed on.
	p, err := url.Parse(raw)
	if err != nil || p.Opaque != "" || p.Host == "" {
		return instanceURL{}, errors.New("want http(s)://HOST[:PORT][/PATH]")
	}
	u := instanceURL{scheme: p.Scheme}
	if u.scheme != "http" && u.scheme != "https" {
		return instanceURL{}, errors.New("the scheme must be http or https")
	}
	if u.host, u.addr, err = parseHost(p.Hostname(), strings.HasPrefix(p.Host, "[")); err != nil {
		return instanceURL{}, err
	}
	if u.port, err = parsePort(p.Port(), u.scheme); err != nil {
		return instanceURL{}, err
	}
	if u.path, err = parsePath(p.Path); err != nil {
		return instanceURL{}, err
	}
	if n := len(u.String()); n > MaxURLBytes {
		return instanceURL{}, fmt.Errorf("%d bytes in its canonical form; at most %d are allowed", n, MaxURLBytes)
	}
	return u, nil
}

// checkRaw refuses, before any parser has its say, the characters over which URL parsers disagree.
func checkRaw(raw string) error {
	switch {
	case raw == "":
		return errors.New("it is empty")
	case len(raw) > MaxURLBytes:
		return fmt.Errorf("%d bytes; at most %d are allowed", len(raw), MaxURLBytes)
	case strings.ContainsAny(raw, "?#"):
		return errors.New("a query or fragment is not allowed")
	case strings.Contains(raw, "@"):
		return errors.New("credentials are not allowed in it")
	case strings.ContainsAny(raw, `\%`):
		return errors.New("backslashes and percent escapes are not allowed")
	}
	for _, r := range raw {
		if !isGraphic(r) {
			return errors.New("spaces and control characters are not allowed")
		}
	}
	return nil
}

func parseHost(host string, bracketed bool) (string, netip.Addr, error) {
	if bracketed {
		addr, err := netip.ParseAddr(host)
		if err != nil || !addr.Is6() {
			return "", netip.Addr{}, errors.New("not an IPv6 address between the brackets")
		}
		if addr.Zone() != "" {
			return "", netip.Addr{}, errors.New("IPv6 zones are not allowed")
		}
		addr = addr.Unmap()
		return addr.String(), addr, nil
	}
	name, err := asciiName(strings.ToLower(host))
	if err != nil {
		return "", netip.Addr{}, err
	}
	if !endsInNumber(name) {
		return name, netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(name)
	if err != nil || !addr.Is4() {
		return "", netip.Addr{}, errors.New("an IPv4 address must be four decimal numbers without leading zeros")
	}
	return addr.String(), addr, nil
}

// asciiName maps an internationalized name, checks it by the rules of DNS host names (STD 3), and takes
// away the root's dot.
func asciiName(host string) (string, error) {
	name, err := idna.New(
		idna.MapForLookup(), idna.BidiRule(), idna.CheckHyphens(false), idna.Transitional(false),
	).ToASCII(host)
	if err != nil {
		return "", errors.New("not a valid host name")
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return "", errors.New("a host name has 1 to 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return "", errors.New("a host name consists of labels of 1 to 63 letters, digits and inner hyphens")
		}
	}
	return name, nil
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// endsInNumber reports whether a resolver may take the name for an IPv4 address: its last label is
// decimal, octal or hexadecimal (the WHATWG URL standard's "ends in a number").
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if rest, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(rest, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

func parsePort(port, scheme string) (uint16, error) {
	if port == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("the port must be 1 to 65535")
	}
	if scheme == "http" && n == 80 || scheme == "https" && n == 443 {
		return 0, nil
	}
	return uint16(n), nil
}

// parsePath allows the path of an instance behind a prefix, and nothing that a proxy could rewrite.
func parsePath(path string) (string, error) {
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return "", nil
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", errors.New("empty and dot segments are not allowed in its path")
		}
		if strings.ContainsFunc(segment, func(r rune) bool { return !isPathRune(r) }) {
			return "", errors.New("its path may have letters, digits and -._~ alone")
		}
	}
	return path, nil
}

func isPathRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~", r)
}
