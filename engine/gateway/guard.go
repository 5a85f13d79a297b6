package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// guard keeps web pages away: those of foreign origins, and those that reach a loopback listener under
// another name (DNS rebinding).
type guard struct {
	origins []string // exact, in lower case; "*" = all
	hosts   []string // without port, in lower case
}

func newGuard(origins, hosts []string) guard {
	lower := func(in []string) (out []string) {
		for _, s := range in {
			out = append(out, strings.ToLower(strings.TrimSuffix(strings.TrimSpace(s), "/")))
		}
		return out
	}
	return guard{origins: lower(origins), hosts: lower(hosts)}
}

// admit answers requests that must go no further and CORS preflights, and reports whether r may go on, and why not.
func (g *guard) admit(w http.ResponseWriter, r *http.Request) (ok bool, why Denial) {
	if !g.hostAllowed(r) {
		refuse(http.StatusForbidden, codeTransport, "Forbidden: the Host header names no host of this server").write(w, nil)
		return false, DeniedHost
	}
	origin := r.Header["Origin"]
	if len(origin) == 0 {
		return true, ""
	}
	if len(origin) > 1 || !g.originAllowed(origin[0]) {
		refuse(http.StatusForbidden, codeTransport, "Forbidden: this Origin is not allowed").write(w, nil)
		return false, DeniedOrigin
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin[0])
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", headerSession+", "+headerVersion+", WWW-Authenticate")
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		h.Set("Access-Control-Allow-Methods", allowed)
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return false, ""
	}
	return true, ""
}

// KeepPagesOut guards what a server on a loopback interface tells whoever asks: requests that reach it there under a name
// other than localhost or one of hosts come from a web page, by DNS rebinding, and are answered 403, as the gateway does
// itself. One without any name comes from no browser, and one with an address from a proxy on this machine: an address
// cannot be bound to another.
func KeepPagesOut(hosts []string, next http.Handler) http.Handler {
	g := newGuard(nil, hosts)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := netip.ParseAddr(hostname(r.Host)); err != nil && r.Host != "" && !g.hostAllowed(r) {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			http.Error(w, "Forbidden: the Host header names no host of this server", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g *guard) hostAllowed(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || !loopback(hostname(local.String())) {
		return true
	}
	host := hostname(r.Host)
	return loopback(host) || slices.Contains(g.hosts, strings.ToLower(host))
}

func (g *guard) originAllowed(origin string) bool {
	if slices.Contains(g.origins, "*") || slices.Contains(g.origins, strings.ToLower(origin)) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Path == "" && u.User == nil && loopback(u.Hostname())
}

// hostname strips the port and the brackets of an IPv6 address.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
