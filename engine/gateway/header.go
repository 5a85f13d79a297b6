package gateway

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	headerSession     = "Mcp-Session-Id"
	headerVersion     = "Mcp-Protocol-Version"
	headerLastEventID = "Last-Event-Id"

	typeJSON = "application/json"
	typeSSE  = "text/event-stream"

	maxSessionID = 256 // bytes
)

// The protocol versions that have sessions. 2024-11-05 had another transport, but clients negotiate it
// over this one.
const (
	version2024 = "2024-11-05"
	versionMar  = "2025-03-26" // what a request without a version header speaks
	versionJune = "2025-06-18"
	versionNov  = "2025-11-25"
	versionNext = "2026-07-28" // without sessions
)

func sessionVersions() []string { return []string{versionNov, versionJune, versionMar, version2024} }

func knownVersion(v string) bool {
	return v == versionNov || v == versionJune || v == versionMar || v == version2024
}

// accepts reports whether an Accept header covers a media type.
func accepts(header http.Header, want string) bool {
	family, _, _ := strings.Cut(want, "/")
	for _, line := range header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			name = strings.TrimSpace(name)
			if (strings.EqualFold(name, want) || name == "*/*" || strings.EqualFold(name, family+"/*")) && !excluded(params) {
				return true
			}
		}
	}
	return false
}

// excluded reports whether parameters hold a quality of zero.
func excluded(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		key, val, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(key, "q") {
			q, err := strconv.ParseFloat(val, 64)
			return err == nil && q == 0
		}
	}
	return false
}

// mediaType returns the media type in lower case without parameters; "" when it cannot be read.
func mediaType(header http.Header) string {
	v := header.Get("Content-Type")
	if v == typeJSON || v == typeSSE {
		return v
	}
	t, _, err := mime.ParseMediaType(v)
	if err != nil {
		return ""
	}
	return t
}

// sessionOf returns the request's session ID; ok is false when the header is there and cannot be one.
func sessionOf(header http.Header) (id string, ok bool) {
	switch vals := header[headerSession]; {
	case len(vals) == 0:
		return "", true
	case len(vals) > 1:
		return "", false
	default:
		return vals[0], vals[0] == "" || visible(vals[0], maxSessionID)
	}
}

// visible reports whether s is 1 to limit bytes of visible ASCII, as session IDs must be.
func visible(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// hopByHop reports whether a header concerns one connection alone (RFC 9110, 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// mine reports whether a client's header is the gateway's own business. A compressed answer could not be
// read, and a browser's origin was checked here.
func mine(name string) bool {
	switch name {
	case headerSession, headerVersion, headerLastEventID, "Accept", "Accept-Encoding", "Content-Length",
		"Content-Type", "Host", "Origin", "Expect":
		return true
	}
	return strings.HasPrefix(name, "Sec-Fetch-")
}

// named returns the headers that a Connection header names, canonical.
func named(header http.Header) []string {
	var names []string
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			names = append(names, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	return names
}

// outbound returns the client's headers as an upstream gets them. The values are shared with in.
func outbound(in http.Header) http.Header {
	out := make(http.Header, len(in)+4)
	drop := named(in)
	for name, vals := range in {
		if !hopByHop(name) && !mine(name) && (len(drop) == 0 || !slices.Contains(drop, name)) {
			out[name] = vals
		}
	}
	if _, said := out["User-Agent"]; !said {
		out["User-Agent"] = []string{""} // or net/http would speak up as itself
	}
	return out
}

// copyAnswer copies the upstream's response headers for the client.
func copyAnswer(dst, src http.Header) {
	drop := named(src)
	for name, vals := range src {
		switch {
		case hopByHop(name), slices.Contains(drop, name):
		case name == headerSession, name == "Content-Length", strings.HasPrefix(name, "Access-Control-"):
		default:
			dst[name] = vals
		}
	}
}
