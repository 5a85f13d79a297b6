package n8n

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"unicode"
)

// maxQuoted bounds what of n8n's own words a tool error repeats, in bytes.
const maxQuoted = 500

var errNoCredentials = fmt.Errorf("%w: this session has no n8n credentials. Connect again with the headers "+
	"x-n8n-url (the URL of your n8n instance) and x-n8n-key (an API key of it), and x-instance-id if you have several", ErrNoContext)

// statusError is an answer of n8n outside of 2xx.
type statusError struct {
	status     int
	message    string // n8n's own words, clipped
	retryAfter string
	location   string // scheme and host of a redirect
}

func (e *statusError) Error() string { return fmt.Sprintf("n8n answered %d", e.status) }

// newStatusError keeps n8n's words without the key, should an n8n, or what poses as one, have sent it back.
func newStatusError(resp *http.Response, body []byte, key string) *statusError {
	clean := func(s string) string { return clean(strings.ReplaceAll(s, key, "[redacted]")) }
	e := &statusError{status: resp.StatusCode, retryAfter: clean(resp.Header.Get("Retry-After"))}
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &answer) == nil {
		e.message = clean(answer.Message)
	}
	if to, err := resp.Location(); err == nil {
		e.location = clean(to.Scheme + "://" + to.Host)
	}
	return e
}

type tooLargeError struct{ limit int64 }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("n8n's answer is larger than %d bytes", e.limit)
}

type notJSONError struct{ contentType string }

func (e *notJSONError) Error() string { return "n8n's answer is not the JSON that its API gives" }

// clean makes foreign text fit for one line of an error: no control characters, not too long.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "") + "…"
	}
	return strings.TrimSpace(s)
}

// explain turns a failure into words that say what the caller can do.
func explain(ctx context.Context, c *call, err error) error {
	if err == nil {
		return nil
	}
	var text string
	if status, ok := errors.AsType[*statusError](err); ok {
		text = status.explain()
	} else {
		text = explainTransport(ctx, err)
	}
	return &toolError{text: c.String() + ": " + text, cause: err}
}

// toolError is what a tool answers. Its text has been checked; that of its cause has not, and is for
// errors.Is alone.
type toolError struct {
	text  string
	cause error
}

func (e *toolError) Error() string { return e.text }

// Is answers for the cause, which itself stays hidden.
func (e *toolError) Is(target error) bool { return errors.Is(e.cause, target) }

func (e *statusError) explain() string {
	text := fmt.Sprintf("n8n answered %d %s", e.status, http.StatusText(e.status))
	if e.message != "" {
		text += fmt.Sprintf(" (%q)", e.message)
	}
	return text + ": " + e.advice()
}

func (e *statusError) advice() string {
	switch s := e.status; {
	case s == http.StatusUnauthorized:
		return "the n8n key was refused; check the key in x-n8n-key, and whether it has expired"
	case s == http.StatusForbidden:
		return "the n8n key does not have the permission for this"
	case s == http.StatusNotFound:
		return "there is no such thing on this instance, or its public API is switched off"
	case s == http.StatusTooManyRequests && e.retryAfter != "":
		return "too many requests; try again after " + e.retryAfter + " (seconds, or a date)"
	case s == http.StatusTooManyRequests:
		return "too many requests; try again later"
	case s >= 300 && s < 400 && e.location != "":
		return "it redirects to " + e.location + ", and redirects are not followed; give the final URL in x-n8n-url"
	case s >= 300 && s < 400:
		return "redirects are not followed; give the final URL in x-n8n-url"
	case s >= 500:
		return "n8n, or a proxy before it, has a problem; whether the request was carried out is not known"
	default:
		return "n8n refused the request; change the arguments"
	}
}

func explainTransport(ctx context.Context, err error) string {
	var (
		tooLarge *tooLargeError
		notJSON  *notJSONError
		dns      *net.DNSError
		cert     *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &tooLarge):
		return tooLarge.Error() + ", the limit here; ask for less (a smaller limit, or includeData false)"
	case errors.As(err, &notJSON):
		return fmt.Sprintf("the answer (%s) is not what n8n's API gives; is x-n8n-url the URL of an n8n instance?", clean(notJSON.contentType))
	case errors.Is(err, ErrAddressRefused):
		return "the URL in x-n8n-url leads to an address that this server does not connect to (" + refusal(err) + ")"
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return "n8n did not answer in time; whether the request was carried out is not known"
	case errors.Is(err, context.Canceled):
		return "canceled by the client"
	case errors.As(err, &dns):
		return "the host name in x-n8n-url cannot be resolved (" + dnsReason(dns) + ")"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens at the address in x-n8n-url; is n8n running?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "n8n's network cannot be reached from here"
	case errors.As(err, &cert):
		return "n8n's TLS certificate is not valid for its name, or not signed by a known authority"
	case isDial(err):
		return "no connection to the address in x-n8n-url (" + clean(innermost(err)) + "); nothing was sent"
	default:
		return "the connection to n8n failed (" + clean(innermost(err)) + "); whether the request was carried out is not known"
	}
}

// refusal returns the policy's own words out of what the dialer wrapped around them.
func refusal(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return ErrAddressRefused.Error()
}

// isDial reports whether there never was a connection.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

func dnsReason(e *net.DNSError) string {
	switch {
	case e.IsNotFound:
		return "no such host"
	case e.IsTimeout:
		return "the name server did not answer in time"
	default:
		return "the name server answered with an error"
	}
}

// innermost leaves out what http and net put around an error: the URL and the addresses.
func innermost(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return err.Error()
}
