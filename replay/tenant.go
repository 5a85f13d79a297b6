package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// tenant counts the sessions of one tenant and finds them a shared profile.
type tenant struct {
	id       journal.TenantID
	sessions int
	recent   []profileID // the newest few, so that equal sessions share one
}

// recentProfiles bounds the search for an equal profile. Tenants whose every session differs, by a
// principal of its own for example, gain nothing from a longer one.
const recentProfiles = 4

// profile is what the sessions of one tenant mostly have in common. Never changed once in use.
type profile struct {
	tenant      *tenant
	source      journal.Source
	timeout     time.Duration
	label       string
	urlHash     journal.URLHash
	principal   journal.Principal
	idKey       journal.KeyID
	contextKey  journal.KeyID
	fingerprint journal.Fingerprint
	initialize  *params
	protocol    string

	sessions int
}

// session returns what all sessions of the profile have in common.
func (p *profile) session() Session {
	return Session{
		Source: p.source, Timeout: p.timeout, Tenant: p.tenant.id, Label: p.label, URLHash: p.urlHash,
		Principal: p.principal, IDKey: p.idKey, ContextKey: p.contextKey, Fingerprint: p.fingerprint,
		Initialize: p.initialize.bytes(), Protocol: p.protocol,
	}
}

// params are the parameters of an initialize request. Equal ones are held once in a state.
type params struct {
	digest   journal.Digest
	json     json.RawMessage
	profiles int
}

func (p *params) bytes() json.RawMessage {
	if p == nil {
		return nil
	}
	return p.json
}

// same reports whether q says the same as p. The params of q may not be interned yet.
func (p *profile) same(q *profile, initialize []byte) bool {
	return p.source == q.source && p.timeout == q.timeout && p.urlHash == q.urlHash &&
		p.fingerprint == q.fingerprint && p.label == q.label && p.principal == q.principal &&
		p.idKey == q.idKey && p.contextKey == q.contextKey && p.protocol == q.protocol &&
		bytes.Equal(p.initialize.bytes(), initialize)
}

// directory holds the tenants that have sessions, and what their sessions share.
type directory struct {
	tenants  map[journal.TenantID]*tenant
	params   map[journal.Digest]*params
	profiles *profiles
}

func newDirectory(p *profiles) directory {
	return directory{
		tenants:  make(map[journal.TenantID]*tenant),
		params:   make(map[journal.Digest]*params),
		profiles: p,
	}
}

func (d *directory) sessions(id journal.TenantID) int {
	if t := d.tenants[id]; t != nil {
		return t.sessions
	}
	return 0
}

// join gives one more session of the tenant a profile that says what want says. want is a draft: its
// strings may belong to a larger buffer, and are copied if no equal profile is at hand.
func (d *directory) join(id journal.TenantID, want *profile, initialize []byte) profileID {
	t := d.tenants[id]
	if t == nil {
		t = &tenant{id: id}
		d.tenants[id] = t
	}
	t.sessions++
	for _, id := range t.recent {
		if p := d.profiles.at(id); p.same(want, initialize) {
			p.sessions++
			return id
		}
	}
	n := d.profiles.add(&profile{
		tenant: t, source: want.source, timeout: want.timeout, label: strings.Clone(want.label),
		urlHash: want.urlHash, principal: clone(want.principal), idKey: clone(want.idKey),
		contextKey: clone(want.contextKey), fingerprint: want.fingerprint,
		initialize: d.intern(initialize), protocol: strings.Clone(want.protocol), sessions: 1,
	})
	if len(t.recent) == recentProfiles {
		t.recent = slices.Delete(t.recent, 0, 1)
	}
	t.recent = append(t.recent, n)
	return n
}

// leave takes one session out of its profile and tenant.
func (d *directory) leave(id profileID) {
	p := d.profiles.at(id)
	t := p.tenant
	if t.sessions--; t.sessions == 0 {
		delete(d.tenants, t.id)
	}
	if p.sessions--; p.sessions > 0 {
		return
	}
	if i := slices.Index(t.recent, id); i >= 0 {
		t.recent = slices.Delete(t.recent, i, i+1)
	}
	d.profiles.remove(id)
	if q := p.initialize; q != nil {
		if q.profiles--; q.profiles == 0 {
			delete(d.params, q.digest)
		}
	}
}

// intern returns the one copy of the parameters.
func (d *directory) intern(initialize []byte) *params {
	if len(initialize) == 0 {
		return nil
	}
	digest := journal.Digest(sha256.Sum256(initialize))
	p := d.params[digest]
	if p == nil {
		p = &params{digest: digest, json: bytes.Clone(initialize)}
		d.params[digest] = p
	}
	p.profiles++
	return p
}

func clone[S ~string](s S) S { return S(strings.Clone(string(s))) }
