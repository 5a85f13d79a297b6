package gateway_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// issuer publishes keys and signs tokens.
type issuer struct {
	tb  testing.TB
	srv *httptest.Server

	mu    sync.Mutex
	keys  []jose.JSONWebKey
	down  bool
	asked int
	now   time.Time
}

func newIssuer(tb testing.TB) *issuer {
	tb.Helper()
	i := &issuer{tb: tb, now: time.Unix(1_800_000_000, 0)}
	i.srv = httptest.NewServer(i)
	tb.Cleanup(i.srv.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if i.down {
		http.Error(w, "down", http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
}

func (i *issuer) clock() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

// pass lets time pass.
func (i *issuer) pass(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = i.now.Add(d)
}

func (i *issuer) set(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func (i *issuer) publish(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

func (i *issuer) check(mods ...func(*gateway.JWTOptions)) *gateway.JWT {
	i.tb.Helper()
	o := gateway.JWTOptions{Issuer: "https://issuer.example", Audience: "https://mcp.example/mcp", JWKS: i.srv.URL, Now: i.clock, Client: i.srv.Client()}
	for _, m := range mods {
		m(&o)
	}
	j, err := gateway.NewJWT(o)
	must(i.tb, err)
	i.tb.Cleanup(func() { must(i.tb, j.Close()) })
	return j
}

type claims map[string]any

// claims are good ones, with changes; a nil value takes one out.
func (i *issuer) claims(change claims) claims {
	c := claims{
		"iss": "https://issuer.example", "aud": []string{"other", "https://mcp.example/mcp"}, "sub": "alice",
		"exp": i.clock().Add(time.Minute).Unix(), "iat": i.clock().Unix(),
	}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func sign(tb testing.TB, alg jose.SignatureAlgorithm, key any, kid string, c claims) string {
	tb.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	must(tb, err)
	payload, err := json.Marshal(c)
	must(tb, err)
	sig, err := s.Sign(payload)
	must(tb, err)
	out, err := sig.CompactSerialize()
	must(tb, err)
	return out
}

// ask authenticates a request with that Authorization header.
func ask(tb testing.TB, auth gateway.Authenticator, header ...string) (gateway.Identity, error) {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/mcp", http.NoBody)
	for _, h := range header {
		r.Header.Add("Authorization", h)
	}
	return auth.Authenticate(r)
}

func public(key crypto.Signer, kid, alg string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: kid, Algorithm: alg, Use: "sig"}
}

// Which tokens are taken.
func TestJWT(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	strange, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	secret := []byte("0123456789abcdef0123456789abcdef")
	i := newIssuer(t)
	i.publish(
		public(rsaKey, "r", "RS256"), public(ecKey, "e", ""), public(edKey, "d", ""), public(p384, "e384", ""),
		jose.JSONWebKey{Key: secret, KeyID: "oct"},
		jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "enc", Use: "enc"},
	)
	j := i.check()
	good := sign(t, jose.RS256, rsaKey, "r", i.claims(nil))
	parts := strings.Split(good, ".")
	at := func(d time.Duration) int64 { return i.clock().Add(d).Unix() }
	raw := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "."
	}
	rs := func(c claims) string { return sign(t, jose.RS256, rsaKey, "r", i.claims(c)) }
	pub, err := json.Marshal(public(rsaKey, "r", ""))
	must(t, err)
	for name, c := range map[string]struct {
		token string
		good  bool
	}{
		"RS256":                  {good, true},
		"ES256":                  {sign(t, jose.ES256, ecKey, "e", i.claims(nil)), true},
		"EdDSA":                  {sign(t, jose.EdDSA, edKey, "d", i.claims(nil)), true},
		"one audience":           {rs(claims{"aud": "https://mcp.example/mcp"}), true},
		"over, within leeway":    {rs(claims{"exp": at(-29 * time.Second)}), true},
		"early, within leeway":   {rs(claims{"nbf": at(29 * time.Second)}), true},
		"over":                   {rs(claims{"exp": at(-31 * time.Second)}), false},
		"early":                  {rs(claims{"nbf": at(31 * time.Second)}), false},
		"from the future":        {rs(claims{"iat": at(time.Hour)}), false},
		"without end":            {rs(claims{"exp": nil}), false},
		"end is text":            {rs(claims{"exp": "never"}), false},
		"of another issuer":      {rs(claims{"iss": "https://issuer.example/"}), false},
		"of no issuer":           {rs(claims{"iss": nil}), false},
		"for somebody else":      {rs(claims{"aud": "https://other.example/mcp"}), false},
		"for nobody":             {rs(claims{"aud": nil}), false},
		"for a part of us":       {rs(claims{"aud": "https://mcp.example"}), false},
		"of nobody":              {rs(claims{"sub": nil}), false},
		"of a name with a space": {rs(claims{"sub": "alice https://issuer.example bob"}), false},
		"of a long name":         {rs(claims{"sub": strings.Repeat("a", 256)}), false},
		"alg none":               {raw(`{"alg":"none","kid":"r"}`), false},
		"alg None":               {raw(`{"alg":"None","kid":"r"}`), false},
		"no alg":                 {raw(`{"kid":"r"}`), false},
		"HS256, secret is ours":  {sign(t, jose.HS256, pub, "r", i.claims(nil)), false},
		"HS256, published":       {sign(t, jose.HS256, secret, "oct", i.claims(nil)), false},
		"RS512":                  {sign(t, jose.RS512, rsaKey, "r", i.claims(nil)), false},
		"PS256":                  {sign(t, jose.PS256, rsaKey, "r", i.claims(nil)), false},
		"ES384":                  {sign(t, jose.ES384, p384, "e384", i.claims(nil)), false},
		"key for encryption":     {sign(t, jose.RS256, rsaKey, "enc", i.claims(nil)), false},
		"another's signature":    {sign(t, jose.RS256, strange, "r", i.claims(nil)), false},
		"unknown key":            {sign(t, jose.RS256, strange, "x", i.claims(nil)), false},
		"no key ID":              {sign(t, jose.RS256, rsaKey, "", i.claims(nil)), false},
		"signature cut":          {good[:len(good)-3], false},
		"no signature":           {parts[0] + "." + parts[1] + ".", false},
		"other claims":           {parts[0] + "." + strings.Split(rs(claims{"sub": "bob"}), ".")[1] + "." + parts[2], false},
		"no token":               {"junk", false},
		"a huge one":             {strings.Repeat("a", 1<<20), false},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := ask(t, j, "Bearer "+c.token)
			switch {
			case c.good && (err != nil || who.Principal != "https://issuer.example alice" || who.Tenant != ""):
				t.Errorf("%+v %v", who, err)
			case !c.good && (!errors.Is(err, gateway.ErrUnauthenticated) || who != gateway.Identity{}):
				t.Errorf("let in: %+v %v", who, err)
			case !c.good && strings.Contains(err.Error(), "."):
				t.Errorf("tells too much: %v", err)
			}
		})
	}
	for _, header := range [][]string{nil, {""}, {"Bearer"}, {"Basic " + good}, {"Bearer " + good, "Bearer " + good}} {
		if _, err := ask(t, j, header...); !errors.Is(err, gateway.ErrUnauthenticated) {
			t.Errorf("%d headers: %v", len(header), err)
		}
	}
	t.Run("tenant claim", func(t *testing.T) {
		j := i.check(func(o *gateway.JWTOptions) { o.TenantClaim = "org" })
		if who, err := ask(t, j, "Bearer "+rs(claims{"org": "acme"})); err != nil || who.Tenant != "acme" {
			t.Errorf("%+v %v", who, err)
		}
		for _, org := range []any{nil, "", 5, []string{"acme"}, strings.Repeat("a", 256)} {
			if who, err := ask(t, j, "Bearer "+rs(claims{"org": org})); !errors.Is(err, gateway.ErrUnauthenticated) {
				t.Errorf("%v: %+v %v", org, who, err)
			}
		}
	})
}

// New keys are found when a token names one, and tokens with made-up key IDs do not reach the issuer.
func TestJWTKeyRotation(t *testing.T) {
	first, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	i := newIssuer(t)
	i.publish(public(first, "1", ""))
	j := i.check()
	try := func(what string, key *ecdsa.PrivateKey, kid string, want error) {
		t.Helper()
		if _, err := ask(t, j, "Bearer "+sign(t, jose.ES256, key, kid, i.claims(nil))); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	try("the first key", first, "1", nil)
	for range 100 {
		try("a made-up key", second, "made-up", gateway.ErrUnauthenticated)
	}
	if n := i.count(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	i.publish(public(second, "2", ""))
	try("the second key, too early", second, "2", gateway.ErrUnauthenticated)
	i.pass(10 * time.Second)
	var wg sync.WaitGroup
	for range 20 { // all of them wait for the one who asks
		wg.Go(func() { try("the second key", second, "2", nil) })
	}
	wg.Wait()
	if n := i.count(); n != 2 {
		t.Errorf("the issuer was asked %d times", n)
	}
	try("the first key, withdrawn", first, "1", gateway.ErrUnauthenticated)

	i.publish(public(first, "1", ""))
	i.pass(11 * time.Minute)
	try("the second key, before the keys are renewed", second, "2", nil)
	eventually(t, func() bool { return i.count() == 3 })
	eventually(t, func() bool {
		_, err := ask(t, j, "Bearer "+sign(t, jose.ES256, second, "2", i.claims(nil)))
		return errors.Is(err, gateway.ErrUnauthenticated)
	})
}

// An issuer that is down locks nobody out whose key is known, and nobody in.
func TestJWTIssuerDown(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	i := newIssuer(t)
	i.publish(public(key, "1", ""))
	i.set(true)
	j := i.check()
	try := func(what, kid string, want error) {
		t.Helper()
		if _, err := ask(t, j, "Bearer "+sign(t, jose.ES256, key, kid, i.claims(nil))); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	try("down at the start", "1", gateway.ErrAuthUnavailable)
	i.set(false)
	try("up, asked a moment ago", "1", gateway.ErrAuthUnavailable)
	i.pass(10 * time.Second)
	try("up", "1", nil)
	i.set(true)
	i.pass(time.Hour)
	try("down later", "1", nil)
	try("down later, another key", "2", gateway.ErrUnauthenticated)
	i.pass(24 * time.Hour)
	try("down for a day", "1", gateway.ErrAuthUnavailable)
	i.set(false)
	i.pass(time.Minute)
	try("up again", "1", nil)
	i.publish(jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "1"})
	i.pass(11 * time.Minute)
	try("nothing but a shared secret is published: the former keys stay", "1", nil)
}

// Whoever is refused learns where to get a token.
func TestJWTChallenge(t *testing.T) {
	i := newIssuer(t)
	j := i.check()
	s := newSite(t)
	id := gateway.Identifier{Auth: j, Name: s.ring.Name}
	s.boot(httpUpstream(t, newStubborn(t).door.url()), setup{gateway: func(o *gateway.Options) { o.Identify = id.Identify }})
	where := `resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp"`
	for header, want := range map[string]string{"": "Bearer " + where, "Bearer junk": `Bearer error="invalid_token", ` + where} {
		r := s.raw("POST", initialize, post("Authorization", header)...)
		if r.status != 401 || r.header.Get("WWW-Authenticate") != want || rpcCode(t, r.body) != -32000 {
			t.Errorf("%q: %d %v", header, r.status, r.header)
		}
	}
	token := "Bearer " + base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"1"}`)) + ".e30.AAAA"
	if r := s.raw("POST", initialize, post("Authorization", token)...); r.status != 503 || r.header.Get("Retry-After") == "" {
		t.Errorf("no keys: %+v", r)
	}
	rec := httptest.NewRecorder()
	j.Metadata().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, j.MetadataPath(), http.NoBody))
	var m struct {
		Resource string
		Servers  []string `json:"authorization_servers"`
	}
	must(t, json.Unmarshal(rec.Body.Bytes(), &m))
	if m.Resource != "https://mcp.example/mcp" || len(m.Servers) != 1 || m.Servers[0] != "https://issuer.example" {
		t.Errorf("%s", rec.Body)
	}
}

func TestJWTOptions(t *testing.T) {
	good := gateway.JWTOptions{Issuer: "i", Audience: "a", JWKS: "https://issuer.example/keys"}
	for name, spoil := range map[string]func(*gateway.JWTOptions){
		"no issuer":    func(o *gateway.JWTOptions) { o.Issuer = "" },
		"no audience":  func(o *gateway.JWTOptions) { o.Audience = "" },
		"no keys":      func(o *gateway.JWTOptions) { o.JWKS = "" },
		"plain http":   func(o *gateway.JWTOptions) { o.JWKS = "http://issuer.example/keys" },
		"a password":   func(o *gateway.JWTOptions) { o.JWKS = "https://a:b@issuer.example/keys" },
		"file":         func(o *gateway.JWTOptions) { o.JWKS = "file:///keys" },
		"much leeway":  func(o *gateway.JWTOptions) { o.Leeway = time.Hour },
		"bad resource": func(o *gateway.JWTOptions) { o.Resource = "mcp.example" },
	} {
		o := good
		spoil(&o)
		if j, err := gateway.NewJWT(o); err == nil {
			_ = j.Close()
			t.Errorf("%s: taken", name)
		}
	}
}
