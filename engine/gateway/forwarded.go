package gateway

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// ForwardedFor says what an upstream learns of the clients' addresses. What a client says about itself (X-Forwarded-For and
// its kin) is never passed on as it is: an upstream that counts by address would count what the client has made up. Nothing
// here ever goes by it either.
type ForwardedFor uint8

// What an upstream learns. Servers that do not expect the header complain about it, n8n-mcp among them, hence the default.
const (
	ForwardedNone   ForwardedFor = iota // nothing
	ForwardedSet                        // X-Forwarded-For with the address that the gateway sees
	ForwardedAppend                     // that address behind those that came: for a gateway that only trusted proxies reach
)

// apply sets the headers of a request whose RemoteAddr is the client's.
func (f ForwardedFor) apply(r *http.Request) {
	came := r.Header["X-Forwarded-For"]
	if f != ForwardedAppend {
		came = nil
		for _, name := range [...]string{"Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip"} {
			delete(r.Header, name)
		}
	}
	delete(r.Header, "X-Forwarded-For")
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if f == ForwardedNone || err != nil {
		return
	}
	r.Header["X-Forwarded-For"] = []string{strings.Join(append(slices.Clip(came), host), ", ")}
}
