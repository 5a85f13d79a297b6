package n8n

import (
	"net/url"
	"strings"
)

// trimAPIPath lets a tenant give the URL of the API instead of the instance's, as many do.
func trimAPIPath(base string) string { return strings.TrimSuffix(base, "/api/v1") }

// joinPath escapes each segment, so that no argument reaches beyond its place in the path.
func joinPath(segments []string) string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	return strings.Join(escaped, "/")
}
