package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
)

// guarded is the Go SDK's server behind the Go SDK's own check of bearer tokens, "USER-anything". The SDK keeps a session to
// the user who opened it.
func guarded(t *testing.T) *server {
	t.Helper()
	srv := newServer(t, mcp.StreamableHTTPOptions{})
	check := auth.RequireBearerToken(func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		user, _, ok := strings.Cut(token, "-")
		if !ok {
			return nil, fmt.Errorf("%w: junk", auth.ErrInvalidToken)
		}
		return &auth.TokenInfo{UserID: user, Expiration: time.Now().Add(time.Hour)}, nil
	}, &auth.RequireBearerTokenOptions{ResourceMetadataURL: "https://up.example/.well-known/x"})
	srv.wrap = check
	srv.restart()
	return srv
}

func (r *replica) changes() (n int) {
	r.tb.Helper()
	r.flush()
	for _, e := range r.site.history() {
		if e.Kind == journal.KindChanged && e.Changed.Principal != "" {
			n++
		}
	}
	return n
}

// A changed credential is taken over when the upstream has accepted it on that very session, and not before; until then it
// moves nothing.
func TestPassthroughCredentialChanges(t *testing.T) {
	srv := guarded(t)
	s := newSite(t)
	boot := func() *replica {
		id := gateway.Identifier{Auth: gateway.Passthrough{Name: s.ring.Name}, Name: s.ring.Name, Context: readContext}
		return s.boot(httpUpstream(t, srv.url()), setup{gateway: func(o *gateway.Options) { o.Identify = id.Identify }})
	}
	r := boot()
	id := s.session("Authorization", "Bearer alice-1")
	try := func(what string, status int, header ...string) reply {
		t.Helper()
		got := s.raw("POST", ping, post(append(header, "Mcp-Session-Id", id)...)...)
		if got.status != status {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
		return got
	}
	one := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	try("alice", 200, "Authorization", "Bearer alice-1")
	if got := try("junk", 401, "Authorization", "Bearer junk"); !strings.Contains(got.header.Get("WWW-Authenticate"), "up.example") {
		t.Errorf("the upstream's challenge is missing: %v", got.header)
	}
	try("bob", 403, "Authorization", "Bearer bob-1")
	try("no credential", 404)
	try("alice's next, with a tenant that the session has not", 404, append(one, "Authorization", "Bearer alice-2")...)
	if n := r.changes(); n != 0 {
		t.Errorf("%d changes by strangers", n)
	}
	try("alice's next", 200, "Authorization", "Bearer alice-2")
	if n := r.changes(); n != 1 {
		t.Errorf("%d changes", n)
	}
	r.kill()
	r = boot()
	try("alice's next, after a restart", 200, "Authorization", "Bearer alice-2")
	try("alice's former one is still good at the upstream", 200, "Authorization", "Bearer alice-1")

	for range 20 {
		try("alice, alternating", 200, "Authorization", "Bearer alice-2")
		try("alice, alternating", 200, "Authorization", "Bearer alice-1")
	}
	if n := r.changes(); n > 5 {
		t.Errorf("%d changes are journaled of an owner who alternates", n)
	}
	if got := s.raw("DELETE", "", "Mcp-Session-Id", id, "Authorization", "Bearer bob-1"); got.status != 403 {
		t.Errorf("bob's DELETE: %d", got.status)
	}
	if got := s.raw("GET", "", "Accept", "text/event-stream", "Mcp-Session-Id", id, "Authorization", "Bearer bob-1"); got.status != 403 {
		t.Errorf("bob's GET: %d", got.status)
	}
}

// Behind a credential that is passed through, and may be one for all tenants, another key is another caller, though the
// upstream would take it: servers do not look at the key before they use it.
func TestPassthroughKeyIsNotRotated(t *testing.T) {
	up := newStubborn(t)
	s := newSite(t)
	id := gateway.Identifier{Auth: gateway.Passthrough{Name: s.ring.Name}, Name: s.ring.Name, Context: readContext}
	r := s.boot(httpUpstream(t, up.door.url()), setup{gateway: func(o *gateway.Options) { o.Identify = id.Identify }})
	with := func(key string) []string {
		return []string{"Authorization", "Bearer for-all", "X-N8n-Url", "https://one.example", "X-N8n-Key", key, "X-Instance-Id", "i1"}
	}
	session := s.session(with("k1")...)
	before := up.count("ping")
	for key, want := range map[string]int{"k1": 200, "k2": 404} {
		if got := s.raw("POST", callTool, post(append(with(key), "Mcp-Session-Id", session)...)...); got.status != want {
			t.Errorf("%s: %d %s", key, got.status, got.body)
		}
	}
	if n := up.count("tools/call"); n != 1 || up.count("ping") != before {
		t.Errorf("the upstream was asked: %q", up.calls)
	}
	r.flush()
	for _, e := range s.history() {
		if e.Kind == journal.KindChanged {
			t.Errorf("%+v", e)
		}
	}
}

// An upstream that has lost the session is not asked to open it again for a credential that nobody has checked.
func TestUnprovenCredentialOpensNothing(t *testing.T) {
	up := newStubborn(t)
	up.lockout = 20
	s := newSite(t)
	id := gateway.Identifier{Auth: gateway.Passthrough{Name: s.ring.Name}, Name: s.ring.Name}
	s.boot(httpUpstream(t, up.door.url()), setup{gateway: func(o *gateway.Options) { o.Identify = id.Identify }})
	session := s.session("Authorization", "Bearer a")
	up.forget()
	for range 3 {
		if r := s.raw("POST", callTool, post("Mcp-Session-Id", session, "Authorization", "Bearer b")...); r.status != 404 {
			t.Errorf("%+v", r)
		}
	}
	if n := up.count("initialize"); n != 1 {
		t.Errorf("initialized %d times", n)
	}
	if r := s.raw("POST", callTool, post("Mcp-Session-Id", session, "Authorization", "Bearer a")...); r.status != 200 {
		t.Errorf("the owner: %+v", r)
	}
	if n := up.count("initialize"); n != 2 {
		t.Errorf("initialized %d times", n)
	}
}
