package gateway

import (
	"errors"
	"net/url"
)

// ShownURL returns what of a URL may stand in logs and messages: scheme, host and path. Its user, query and fragment may
// hold credentials.
func ShownURL(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "a URL that cannot be read"
	}
	return shown(u)
}

func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// WithoutURL returns what went wrong without the whole URL at which it did, with which packages net/http and net/url
// begin their errors.
func WithoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
