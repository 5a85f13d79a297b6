package n8n

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/dormouse-mcp/dormouse/engine"
)

// The request headers that carry an instance context.
const (
	HeaderURL        = "X-N8n-Url"
	HeaderKey        = "X-N8n-Key"
	HeaderInstanceID = "X-Instance-Id"
	HeaderSessionID  = "X-Session-Id"
)

// Limits of an instance context, in bytes.
const (
	MaxURLBytes      = 2048
	MaxKeyBytes      = 4096
	MaxIDBytes       = 256
	MaxMetadataBytes = 64 << 10
	MaxExtraBytes    = 64 << 10 // of the names and values of all fields that n8n-mcp or others add
)

// The sentinels are part of the contract; test for them with errors.Is. Over HTTP each of them is the
// client's mistake: 400.
var (
	// ErrPartialContext says that only one of URL and key is there. Whoever sent it wanted to be a tenant:
	// never serve such a request with anything else's credentials.
	ErrPartialContext = errors.New("partial instance context")

	// ErrInvalidContext says that a field of the context does not have the form it must have. The message
	// names the field and never its value.
	ErrInvalidContext = errors.New("invalid instance context")

	// ErrNoContext says that there is no context where one is needed.
	ErrNoContext = errors.New("no instance context")
)

// ParseContext reads the instance context from a request's headers, with its URL in canonical form. It
// returns nil without an error when neither URL nor key is there: the request speaks for no tenant, and
// the other two headers alone do not change that. It fails with ErrPartialContext or ErrInvalidContext.
// No address is judged here; see [Policy.Validate].
func ParseContext(h http.Header) (*engine.InstanceContext, error) {
	url, errURL := single(h, HeaderURL)
	key, errKey := single(h, HeaderKey)
	if err := errors.Join(errURL, errKey); err != nil {
		return nil, err
	}
	if url == "" && key == "" {
		return nil, nil //nolint:nilnil // no tenant is an answer, not an error
	}
	instance, errInstance := single(h, HeaderInstanceID)
	session, errSession := single(h, HeaderSessionID)
	if err := errors.Join(errInstance, errSession); err != nil {
		return nil, err
	}
	ic := &engine.InstanceContext{N8nAPIURL: url, N8nAPIKey: key, InstanceID: instance, SessionID: session}
	if err := checkFields(ic); err != nil {
		return nil, err
	}
	canonical, err := CanonicalURL(url)
	if err != nil {
		return nil, err
	}
	ic.N8nAPIURL = canonical
	return ic, nil
}

// single returns the one value of a header. Two of them, even equal ones, are refused: proxies differ in
// which of the two they believe.
func single(h http.Header, name string) (string, error) {
	switch values := h.Values(name); len(values) {
	case 0:
		return "", nil
	case 1:
		return strings.Trim(values[0], " \t"), nil
	default:
		return "", fmt.Errorf("%w: header %s is there %d times", ErrInvalidContext, strings.ToLower(name), len(values))
	}
}

// checkFields checks what can be said of a context's fields without understanding its URL.
func checkFields(ic *engine.InstanceContext) error {
	switch {
	case ic.N8nAPIURL == "" && ic.N8nAPIKey == "":
		return ErrNoContext
	case ic.N8nAPIKey == "":
		return fmt.Errorf("%w: there is a URL but no key (header x-n8n-key)", ErrPartialContext)
	case ic.N8nAPIURL == "":
		return fmt.Errorf("%w: there is a key but no URL (header x-n8n-url)", ErrPartialContext)
	}
	return errors.Join(
		checkText("n8n URL", ic.N8nAPIURL, MaxURLBytes, isGraphic),
		checkText("n8n key", ic.N8nAPIKey, MaxKeyBytes, isVisibleASCII),
		checkText("instance ID", ic.InstanceID, MaxIDBytes, isPrintableASCII),
		checkText("session ID", ic.SessionID, MaxIDBytes, isPrintableASCII),
		checkMetadata(ic.Metadata),
		checkExtra(ic.Extra),
	)
}

func checkText(what, s string, limit int, allowed func(rune) bool) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s of %d bytes; at most %d are allowed", ErrInvalidContext, what, len(s), limit)
	}
	for i, r := range s {
		if !allowed(r) {
			return fmt.Errorf("%w: %s has a character that is not allowed at byte %d", ErrInvalidContext, what, i)
		}
	}
	return nil
}

func checkMetadata(m json.RawMessage) error {
	switch {
	case len(m) == 0:
		return nil
	case len(m) > MaxMetadataBytes:
		return fmt.Errorf("%w: metadata of %d bytes; at most %d are allowed", ErrInvalidContext, len(m), MaxMetadataBytes)
	case !json.Valid(m):
		return fmt.Errorf("%w: metadata is not JSON", ErrInvalidContext)
	default:
		return nil
	}
}

func checkExtra(extra map[string]json.RawMessage) error {
	size := 0
	for name, value := range extra {
		size += len(name) + len(value)
	}
	if size > MaxExtraBytes {
		return fmt.Errorf("%w: further fields of %d bytes; at most %d are allowed", ErrInvalidContext, size, MaxExtraBytes)
	}
	return nil
}

func isVisibleASCII(r rune) bool   { return r > ' ' && r < 0x7f }
func isPrintableASCII(r rune) bool { return r >= ' ' && r < 0x7f }

// isGraphic leaves non-ASCII letters to the URL's own rules: a host may be an internationalized name.
func isGraphic(r rune) bool { return isVisibleASCII(r) || r >= 0xa0 && r != 0xfffd }
