package gateway

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
)

var (
	// ErrUnauthenticated says that a request carries no valid credential. It is answered 401.
	ErrUnauthenticated = errors.New("unauthenticated")

	// ErrBadContext says that a request's instance context is incomplete or not allowed. It is answered
	// 400 with the error's text, which must hold no secret.
	ErrBadContext = errors.New("bad instance context")
)

// Identity is what an Authenticator found out about a caller.
type Identity struct {
	Principal string // a token's name or a credential's keyed hash; empty = callers are not told apart
	Tenant    string // the tenant that the operator has given to the token; empty = none
	Opaque    bool   // Principal is a credential's hash, and only the upstream can check that; see engine.Caller
}

// Authenticator checks a request's credential. It returns ErrUnauthenticated, possibly wrapped, for a bad
// one. Safe for concurrent use.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Namer is a keyed hash of parts within a domain. seal.Keyring's Name fits.
type Namer func(domain string, parts ...string) [16]byte

// Identifier tells who makes a request. The zero value of every field but Name is usable.
type Identifier struct {
	Auth Authenticator // nil = nobody is checked; the n8n key tells callers apart
	Name Namer         // required

	// Context reads and checks the instance context in the headers; nil, nil when there is none. Its errors
	// are answered 400. A nil Context reads none.
	Context func(http.Header) (*engine.InstanceContext, error)

	// CanonicalURL brings a tenant's URL in the one form that is hashed; nil = as it is.
	CanonicalURL func(string) (string, error)
}

// Identify fits Options.Identify.
func (id *Identifier) Identify(r *http.Request) (engine.Caller, error) {
	var who Identity
	var c engine.Caller
	var err error
	if id.Auth != nil {
		if who, err = id.Auth.Authenticate(r); err != nil {
			return c, err
		}
	}
	if id.Context != nil {
		if c.Context, err = id.Context(r.Header); err != nil {
			return c, fmt.Errorf("%w: %w", ErrBadContext, err)
		}
	}
	c.Principal, c.Opaque = journal.Principal(who.Principal), who.Opaque
	if c.Context != nil {
		if err := id.place(&c); err != nil {
			return c, err
		}
		if c.Principal == "" { // nobody checks, or there was nothing to check
			c.Principal = credential(id.Name, c.Context.N8nAPIKey)
		}
	}
	if who.Tenant != "" {
		c.ContextTenant = c.Tenant
		c.Tenant = journal.TenantID(id.Name("tenant", "token", who.Tenant))
		c.Label = who.Tenant
	}
	return c, nil
}

// place derives the tenant from the instance context.
func (id *Identifier) place(c *engine.Caller) error {
	url := c.Context.N8nAPIURL
	if id.CanonicalURL != nil {
		var err error
		if url, err = id.CanonicalURL(url); err != nil {
			return fmt.Errorf("%w: %w", ErrBadContext, err)
		}
	}
	c.URLHash = journal.URLHash(id.Name("url", url))
	c.Tenant = journal.TenantID(id.Name("tenant", "instance", url, c.Context.InstanceID))
	c.Label = c.Context.InstanceID
	return nil
}

func credential(name Namer, secret string) journal.Principal {
	if secret == "" {
		return ""
	}
	sum := name("credential", secret)
	return journal.Principal(fmt.Sprintf("credential:%x", sum[:]))
}

// Passthrough identifies callers by a keyed hash of their Authorization header, which the upstream checks. A changed one is
// taken over when the upstream has accepted it on that very session.
type Passthrough struct{ Name Namer }

// Authenticate never fails: it is the upstream that knows.
func (p Passthrough) Authenticate(r *http.Request) (Identity, error) {
	given := strings.Join(r.Header["Authorization"], "\n")
	return Identity{Principal: string(credential(p.Name, given)), Opaque: given != ""}, nil
}

// TokenFile checks bearer tokens against a file. Each line is "NAME:TOKEN", or "NAME TENANT TOKEN" for
// a token whose bearer acts for that tenant; blank lines and lines that begin with '#' are skipped.
type TokenFile struct {
	path   string
	tokens atomic.Pointer[map[[sha256.Size]byte]Identity]

	mu    sync.Mutex
	taken [sha256.Size]byte // of the content that was read last, good or bad
	seen  [sha256.Size]byte // of the content at the last Poll
}

// minToken is the length of the shortest token that is taken: shorter ones can be guessed.
const minToken = 16

// OpenTokenFile reads the file. Errors name the line and never show a token.
func OpenTokenFile(path string) (*TokenFile, error) {
	t := &TokenFile{path: path}
	return t, t.Reload()
}

// Reload reads the file again; after an error the former tokens stay.
func (t *TokenFile) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, err := os.ReadFile(t.path)
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return t.take(data)
}

// Poll takes the file over when its content has changed and was the same at the Poll before, so that nobody reads it
// half written. It reports whether it did. After an error the former tokens stay; the same content fails once.
func (t *TokenFile) Poll() (changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, err := os.ReadFile(t.path)
	if err != nil {
		data = nil
	}
	sum := sha256.Sum256(data)
	settled := sum == t.seen
	t.seen = sum
	if sum == t.taken || !settled {
		return false, nil
	}
	if err != nil {
		t.taken = sum
		return false, fmt.Errorf("token file: %w", err)
	}
	return true, t.take(data)
}

// take takes the tokens of a file's content. t.mu is held.
func (t *TokenFile) take(data []byte) error {
	t.taken = sha256.Sum256(data)
	tokens := make(map[[sha256.Size]byte]Identity)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		who, token, err := parseToken(line)
		if err != nil {
			return fmt.Errorf("token file %s, line %d: %w", t.path, n, err)
		}
		sum := sha256.Sum256([]byte(token))
		if _, twice := tokens[sum]; twice {
			return fmt.Errorf("token file %s, line %d: %w: a token appears twice", t.path, n, journal.ErrMalformed)
		}
		tokens[sum] = who
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("token file %s: %w", t.path, err)
	}
	if len(tokens) == 0 {
		return fmt.Errorf("token file %s: %w: it holds no token", t.path, journal.ErrMalformed)
	}
	t.tokens.Store(&tokens)
	return nil
}

func parseToken(line string) (who Identity, token string, err error) {
	switch parts := strings.Fields(line); len(parts) {
	case 1:
		who.Principal, token, _ = strings.Cut(line, ":")
	case 3:
		who.Principal, who.Tenant, token = parts[0], parts[1], parts[2]
	}
	switch {
	case who.Principal == "" || token == "":
		return who, "", fmt.Errorf("%w: want NAME:TOKEN or NAME TENANT TOKEN", journal.ErrMalformed)
	case len(token) < minToken:
		return who, "", fmt.Errorf("%w: the token of %s is shorter than %d characters", journal.ErrMalformed, who.Principal, minToken)
	}
	return who, token, nil
}

// Authenticate looks the bearer token up by its SHA-256, so that the time tells nothing about the tokens.
func (t *TokenFile) Authenticate(r *http.Request) (Identity, error) {
	token, ok := bearer(r.Header)
	if !ok {
		return Identity{}, fmt.Errorf("%w: no bearer token", ErrUnauthenticated)
	}
	who, ok := (*t.tokens.Load())[sha256.Sum256([]byte(token))]
	if !ok {
		return Identity{}, fmt.Errorf("%w: unknown bearer token", ErrUnauthenticated)
	}
	return who, nil
}
