package store

import (
	"net/url"
	"strings"
)

// redacted is a list of NATS URLs, as --nats-url takes it, without passwords and tokens.
func redacted(list string) string {
	var shown []string
	for raw := range strings.SplitSeq(list, ",") {
		shown = append(shown, redactedURL(strings.TrimSpace(raw)))
	}
	return strings.Join(shown, ",")
}

func redactedURL(raw string) string {
	if !strings.Contains(raw, "://") {
		raw = "nats://" + raw // as nats.go reads it
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "an address that is no URL"
	}
	if _, hasPassword := u.User.Password(); u.User != nil && !hasPassword {
		u.User = url.User("xxxxx") // a name alone is a token to NATS
	}
	return u.Redacted()
}
