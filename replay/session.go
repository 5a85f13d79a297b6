package replay

import (
	"encoding/json"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Session is the state of one session: a copy that the caller may keep. Its slices are shared
// and must not be changed.
type Session struct {
	Ref           journal.Ref
	Source        journal.Source
	Position      journal.Position // of its created event
	CreatedAt     journal.Instant
	LastAccess    journal.Instant
	Timeout       time.Duration // whole milliseconds
	Tenant        journal.TenantID
	Label         string
	URLHash       journal.URLHash
	Principal     journal.Principal
	ID            journal.Sealed
	IDKey         journal.KeyID
	Context       journal.Sealed
	ContextKey    journal.KeyID
	Fingerprint   journal.Fingerprint // of ContextKey
	Initialize    json.RawMessage
	Protocol      string
	LogLevel      string
	Subscriptions []string // sorted
	Epoch         journal.Epoch
	BoundAt       journal.Position // of the accepted claim of Epoch
	Replica       journal.ReplicaID
	Upstream      journal.Sealed
	UpstreamKey   journal.KeyID
	Calls         uint64 // completed requests
}

// Expires returns when the session expires unless it is accessed before.
func (s *Session) Expires() journal.Instant { return s.LastAccess.Add(s.Timeout) }

// session returns the copy that callers see.
func (t *table) session(r *record) Session {
	return sessionOf(r, t.profiles.at(r.profile), t.arena.at(r.body))
}

func sessionOf(r *record, p *profile, stored []byte) Session {
	var b body
	b.decode(stored)
	s := p.session()
	s.Ref, s.Position, s.CreatedAt, s.LastAccess = r.ref, r.position.position(), r.createdAt, r.lastAccess
	s.ID, s.Context, s.Calls = b.id, b.context, uint64(r.calls)
	if b.epoch > 0 {
		s.Epoch, s.BoundAt, s.Replica = b.epoch, b.at, journal.ReplicaID(b.replica)
		s.Upstream, s.UpstreamKey = b.upstream, b.key(p.idKey)
	}
	if b.wished() {
		s.LogLevel, s.Subscriptions = string(b.logLevel), b.subscriptions
	}
	return s
}

// body returns what the arena would hold of the session.
func (s *Session) body() (b body) {
	b.id, b.context, b.logLevel, b.subscriptions = s.ID, s.Context, []byte(s.LogLevel), s.Subscriptions
	if s.Epoch > 0 {
		b.epoch, b.at, b.replica, b.upstream = s.Epoch, s.BoundAt, []byte(s.Replica), s.Upstream
		b.setKey(s.UpstreamKey, s.IDKey)
	}
	return b
}
