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

// record is how a State holds a session: what differs between sessions of one tenant, and pointers to
// what is shared or rare. It never leaves the package. What it points to is replaced, never changed.
type record struct {
	ref        journal.Ref
	profile    *profile
	sealed     []byte // the ID, then the context
	idLen      uint32
	slot       uint32 // place in its due bucket
	bucket     bucket
	position   journal.Position
	createdAt  journal.Instant
	lastAccess journal.Instant
	epoch      journal.Epoch
	calls      uint64
	binding    *binding // nil until bound
	wishes     *wishes  // nil until a client sets any
}

// binding is who serves a session since its last accepted claim. Never changed once in use.
type binding struct {
	at          journal.Position
	replica     journal.ReplicaID
	upstream    journal.Sealed
	upstreamKey journal.KeyID
}

// wishes is what a client asked for besides calls. Never changed once in use.
type wishes struct {
	logLevel      string
	subscriptions []string
}

func (r *record) expires() journal.Instant { return r.lastAccess.Add(r.profile.timeout) }

// session returns the copy that callers see.
func (r *record) session() Session {
	p, id := r.profile, int(r.idLen)
	s := Session{
		Ref: r.ref, Source: p.source, Position: r.position,
		CreatedAt: r.createdAt, LastAccess: r.lastAccess, Timeout: p.timeout,
		Tenant: p.tenant.id, Label: p.label, URLHash: p.urlHash, Principal: p.principal,
		ID: r.sealed[:id:id], IDKey: p.idKey,
		Context: r.sealed[id:len(r.sealed):len(r.sealed)], ContextKey: p.contextKey, Fingerprint: p.fingerprint,
		Initialize: p.initialize.bytes(), Protocol: p.protocol,
		Epoch: r.epoch, Calls: r.calls,
	}
	if b := r.binding; b != nil {
		s.BoundAt, s.Replica, s.Upstream, s.UpstreamKey = b.at, b.replica, b.upstream, b.upstreamKey
	}
	if w := r.wishes; w != nil {
		s.LogLevel, s.Subscriptions = w.logLevel, w.subscriptions
	}
	return s
}
