package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/rs/zerolog"
)

// ErrAuthUnavailable says that a credential cannot be checked now. It is answered 503 with Retry-After.
var ErrAuthUnavailable = errors.New("credentials cannot be checked now")

// JWTOptions configures NewJWT. Issuer, Audience and JWKS must be set.
type JWTOptions struct {
	Issuer   string // the iss claim, to the letter
	Audience string // must be among the aud claim; by RFC 8707 it is the URL under which clients reach the gateway
	JWKS     string // URL of the issuer's keys; https, or http on loopback

	// TenantClaim names the string claim that holds the tenant; empty = tokens name none. Where it is set, a token
	// without it is refused.
	TenantClaim string

	// Resource is the URL under which clients reach the gateway, for RFC 9728; empty = Audience if that is a URL.
	Resource string

	Leeway time.Duration    // for exp, nbf and iat; 0 = 30 s, at most 5 min
	Client *http.Client     // asks for the keys; nil = one of its own. Redirects are not followed
	Now    func() time.Time // nil = time.Now
	Logger zerolog.Logger
}

func (o *JWTOptions) complete() error {
	if o.Issuer == "" || o.Audience == "" {
		return errors.New("JWT options: issuer and audience must be set")
	}
	u, err := url.Parse(o.JWKS)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return errors.New("JWT options: the key set's URL must be https, or http on loopback")
	}
	if o.Leeway < 0 || o.Leeway > 5*time.Minute {
		return fmt.Errorf("JWT options: leeway of %v: want at most 5 minutes", o.Leeway)
	}
	if o.Leeway == 0 {
		o.Leeway = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Resource == "" && isURL(o.Audience) {
		o.Resource = o.Audience
	}
	if o.Resource != "" && !isURL(o.Resource) {
		return errors.New("JWT options: the resource must be an http or https URL without query and fragment")
	}
	return nil
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// JWT checks bearer tokens that are JWTs of one issuer, by the keys that it publishes. The principal is issuer and
// subject. Signatures are RS256, ES256 or EdDSA; nothing else is looked at, "none" and shared secrets least of all.
// Safe for concurrent use.
type JWT struct {
	o    JWTOptions
	keys *keySet
}

const (
	maxToken   = 16 << 10 // bytes
	maxSubject = 255      // bytes, as OpenID Connect has it
	maxTenant  = 255
)

func tokenAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}
}

// NewJWT returns the check and asks for the keys in the background. An issuer that is down does not fail it: tokens
// cannot be checked then, and requests are answered 503 until it is there. Close must be called.
func NewJWT(o JWTOptions) (*JWT, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	j := &JWT{o: o, keys: newKeySet(o.JWKS, o.Client, o.Now, o.Logger)}
	j.keys.renew()
	return j, nil
}

// Close ends what is under way in the background.
func (j *JWT) Close() error {
	j.keys.close()
	return nil
}

// Authenticate checks the bearer token.
func (j *JWT) Authenticate(r *http.Request) (Identity, error) {
	token, ok := bearer(r.Header)
	if !ok {
		return Identity{}, j.refuse("no bearer token", "")
	}
	who, err := j.identity(r, token)
	switch {
	case err == nil, errors.Is(err, ErrAuthUnavailable), r.Context().Err() != nil:
		return who, err
	default:
		// Why is for the log: whoever sends a bad token learns that it is bad.
		j.o.Logger.Debug().Err(err).Msg("token refused")
		return Identity{}, j.refuse("bad token", "invalid_token")
	}
}

func (j *JWT) identity(r *http.Request, token string) (who Identity, err error) {
	if len(token) > maxToken {
		return who, errors.New("the token is too long")
	}
	parsed, err := jwt.ParseSigned(token, tokenAlgorithms())
	if err != nil {
		return who, err
	}
	if len(parsed.Headers) != 1 {
		return who, errors.New("want one signature")
	}
	key, err := j.keys.find(r.Context(), parsed.Headers[0].KeyID)
	if err != nil {
		return who, err
	}
	if key.Algorithm != "" && key.Algorithm != parsed.Headers[0].Algorithm {
		return who, errors.New("the key is for another algorithm")
	}
	var claims jwt.Claims
	var all map[string]json.RawMessage
	if err := parsed.Claims(key.Key, &claims, &all); err != nil {
		return who, err
	}
	if claims.Expiry == nil {
		return who, errors.New("the token has no end")
	}
	want := jwt.Expected{Issuer: j.o.Issuer, AnyAudience: jwt.Audience{j.o.Audience}, Time: j.o.Now()}
	if err := claims.ValidateWithLeeway(want, j.o.Leeway); err != nil {
		return who, err
	}
	if !visible(claims.Subject, maxSubject) {
		return who, errors.New("want a subject of 1 to 255 visible ASCII characters")
	}
	// The issuer is the operator's own choice and holds no space.
	who.Principal = j.o.Issuer + " " + claims.Subject
	if j.o.TenantClaim != "" {
		tenant, ok := unquote(all[j.o.TenantClaim])
		if !ok || tenant == "" || len(tenant) > maxTenant {
			return who, fmt.Errorf("claim %q holds no tenant", j.o.TenantClaim)
		}
		who.Tenant = tenant
	}
	return who, nil
}

// bearer returns the token of an Authorization header.
func bearer(header http.Header) (string, bool) {
	if len(header["Authorization"]) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// refuse returns an ErrUnauthenticated with the challenge of RFC 6750 and RFC 9728, which MCP's authorization asks for.
func (j *JWT) refuse(why, code string) error {
	var params []string
	if code != "" {
		params = append(params, `error="`+code+`"`)
	}
	if path := j.MetadataPath(); path != "" {
		u, _ := url.Parse(j.o.Resource) // complete has looked at it
		params = append(params, `resource_metadata="`+u.Scheme+"://"+u.Host+path+`"`)
	}
	return &challenge{why: why, header: strings.TrimSpace("Bearer " + strings.Join(params, ", "))}
}

// MetadataPath is where clients look for Metadata (RFC 9728, section 3.1); empty when the resource's URL is not known.
func (j *JWT) MetadataPath() string {
	if j.o.Resource == "" {
		return ""
	}
	u, _ := url.Parse(j.o.Resource) // complete has looked at it
	return "/.well-known/oauth-protected-resource" + strings.TrimSuffix(u.EscapedPath(), "/")
}

// Metadata is the protected resource metadata of RFC 9728, by which MCP clients find out where to get a token.
func (j *JWT) Metadata() http.Handler {
	body, err := json.Marshal(map[string]any{
		"resource": j.o.Resource, "authorization_servers": []string{j.o.Issuer}, "bearer_methods_supported": []string{"header"},
	})
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			http.Error(w, "no metadata", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", typeJSON)
		w.Header().Set("Access-Control-Allow-Origin", "*") // public, and asked for by clients in web pages
		_, _ = w.Write(body)                               // nobody is left to tell
	})
}

// challenge is an ErrUnauthenticated that says how to authenticate.
type challenge struct{ why, header string }

func (c *challenge) Error() string { return ErrUnauthenticated.Error() + ": " + c.why }

func (c *challenge) Unwrap() error { return ErrUnauthenticated }
