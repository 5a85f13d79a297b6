package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/engine/gateway"
)

// limited boots a replica that lets three requests a caller and tenant through, for an hour.
func (s *site) limited(up gateway.Upstream, auth gateway.Authenticator) {
	id := gateway.Identifier{Auth: auth, Name: s.ring.Name, Context: readContext}
	three := gateway.Rate{N: 3, Per: time.Hour}
	s.boot(up, setup{gateway: func(o *gateway.Options) {
		o.Identify, o.Limits = id.Identify, gateway.Limits{PerTenant: three, PerPrincipal: three}
	}})
}

// Whatever others do with sessions that are gone, or that are not theirs, and however busy a tenant's own sessions are: a
// valid initialize is let through.
func TestStaleSessionsDoNotLockOut(t *testing.T) {
	one := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	foreign := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "stolen?", "X-Instance-Id", "i1"} // names the same tenant
	for name, auth := range map[string]func(s *site) (gateway.Authenticator, []string){
		"no tokens": func(*site) (gateway.Authenticator, []string) { return nil, nil },
		"passthrough": func(s *site) (gateway.Authenticator, []string) {
			return gateway.Passthrough{Name: s.ring.Name}, []string{"Authorization", "Bearer a"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			up := newStubborn(t)
			s := newSite(t)
			a, mine := auth(s)
			mine = append(mine, one...)
			s.limited(httpUpstream(t, up.door.url()), a)
			id := s.session(mine...)
			for i := range 50 {
				stale := "00000000-0000-4000-8000-0000000000" + string(rune('0'+i/10)) + string(rune('0'+i%10))
				for _, h := range [][]string{mine, foreign, nil} {
					if r := s.raw("POST", ping, post(append(h, "Mcp-Session-Id", stale)...)...); r.status != 404 {
						t.Fatalf("a stale session: %d", r.status)
					}
				}
				if r := s.raw("POST", ping, post(append(foreign, "Mcp-Session-Id", id)...)...); r.status != 404 {
					t.Fatalf("somebody else's session: %d", r.status)
				}
			}
			for range 2 { // the notification was the first
				if r := s.raw("POST", ping, post(append(mine, "Mcp-Session-Id", id)...)...); r.status != 200 {
					t.Errorf("the owner's share was used up: %+v", r)
				}
			}
			r := s.raw("POST", ping, post(append(mine, "Mcp-Session-Id", id)...)...)
			if r.status != 429 || rpcCode(t, r.body) != -32053 || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, `"id":7`) {
				t.Errorf("beyond the share: %+v", r)
			}
			if r := s.raw("POST", initialize, post(mine...)...); r.status != 200 {
				t.Errorf("a valid initialize: %+v", r)
			}
			if r := s.raw("DELETE", "", append(mine, "Mcp-Session-Id", id)...); r.status != 204 {
				t.Errorf("DELETE: %+v", r)
			}
			if r := s.raw("POST", initialize, post(mine...)...); r.status != 200 {
				t.Errorf("a valid initialize: %+v", r)
			}
			if r := s.raw("POST", initialize, post(mine...)...); r.status != 429 || up.count("initialize") != 3 {
				t.Errorf("a fourth within the hour: %+v", r)
			}
		})
	}
}

// An initialize that the upstream refuses is nobody's: with a tenant's name alone, its share cannot be used up.
func TestRefusedInitializeDoesNotCount(t *testing.T) {
	up := newScripted(t, nil)
	var refusing bool
	up.door.open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refusing {
			w.WriteHeader(401)
			return
		}
		up.ServeHTTP(w, r)
	}))
	s := newSite(t)
	s.limited(httpUpstream(t, up.door.url()), gateway.Passthrough{Name: s.ring.Name})
	one := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	refusing = true
	for range 20 {
		if r := s.raw("POST", initialize, post(append(one, "Authorization", "Bearer junk")...)...); r.status != 401 {
			t.Fatalf("%+v", r)
		}
	}
	refusing = false
	if r := s.raw("POST", initialize, post(append(one, "Authorization", "Bearer a")...)...); r.status != 200 {
		t.Errorf("%+v", r)
	}
}

// Limits on sessions count what is there, not what is asked for.
func TestSessionLimitPerTenant(t *testing.T) {
	s := newSite(t)
	id := gateway.Identifier{Name: s.ring.Name, Context: readContext}
	s.boot(httpUpstream(t, newStubborn(t).door.url()), setup{
		gateway: func(o *gateway.Options) { o.Identify = id.Identify },
		engine:  func(o *engine.Options) { o.MaxPerTenant = 2 },
	})
	one := []string{"X-N8n-Url", "https://one.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	two := []string{"X-N8n-Url", "https://two.example", "X-N8n-Key", "k1", "X-Instance-Id", "i1"}
	for i, c := range []struct {
		header []string
		status int
	}{{one, 200}, {one, 200}, {one, 429}, {two, 200}, {one, 429}} {
		if r := s.raw("POST", initialize, post(c.header...)...); r.status != c.status {
			t.Errorf("%d: %d %s", i, r.status, r.body)
		}
	}
}
