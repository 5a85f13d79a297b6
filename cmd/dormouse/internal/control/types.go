package control

import (
	"encoding/json"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// The states of a session, as shown.
const (
	StateLive    = "live"    // it has a runtime on this replica
	StateDormant = "dormant" // its next request wakes it
	StateExpired = "expired" // timed out while nobody was there to write it down
	StateEnded   = "ended"   // closed or expired, by the history
)

// Session is one row of a list, and the JSON form of a session.
type Session struct {
	Ref        string    `json:"ref"`
	Tenant     string    `json:"tenant"`
	Label      string    `json:"label,omitempty"`
	Principal  string    `json:"principal,omitempty"`
	State      string    `json:"state"`
	Source     string    `json:"source,omitempty"`
	CreatedAt  time.Time `json:"createdAt,omitzero"`
	LastAccess time.Time `json:"lastAccess,omitzero"`
	ExpiresAt  time.Time `json:"expiresAt,omitzero"`
	TimeoutMS  int64     `json:"timeoutMs,omitempty"`
	Calls      uint64    `json:"calls"`
	Epoch      uint64    `json:"epoch"`
	Replica    string    `json:"replica,omitempty"`
	Protocol   string    `json:"protocol,omitempty"`
}

// Detail is all that may be told of one session.
type Detail struct {
	Session
	Position      string          `json:"position,omitempty"` // of its created event
	Client        json.RawMessage `json:"client,omitempty"`   // clientInfo of its initialize request
	Capabilities  json.RawMessage `json:"capabilities,omitempty"`
	LogLevel      string          `json:"logLevel,omitempty"`
	Subscriptions []string        `json:"subscriptions,omitempty"`
	HasContext    bool            `json:"hasContext"`  // a sealed instance context is held
	HasUpstream   bool            `json:"hasUpstream"` // a sealed upstream session is held
	Key           string          `json:"key,omitempty"`
	Fingerprint   string          `json:"fingerprint,omitempty"`
	Events        []Event         `json:"events"` // the last ones, newest last
}

// Status is what a daemon, or the store of a stopped one, says of itself.
type Status struct {
	State    string      `json:"state"` // restoring, ready, stopping; stopped for a folder without a daemon
	PID      int         `json:"pid,omitempty"`
	Version  string      `json:"version,omitempty"`
	Replica  string      `json:"replica,omitempty"`
	Journal  string      `json:"journal,omitempty"`
	Listen   string      `json:"listen,omitempty"`
	Admin    string      `json:"admin,omitempty"`
	Started  time.Time   `json:"started,omitzero"`
	Folded   journal.Seq `json:"folded"`
	Target   journal.Seq `json:"target"`
	Sessions int         `json:"sessions"`
	Live     int         `json:"live"`

	JournalTime time.Time `json:"journalTime,omitzero"` // of the last batch folded
	Durability  string    `json:"durability,omitempty"` // when an event counts as stored
	Upstream    string    `json:"upstream,omitempty"`   // URL; empty for the built-in tools and for child processes
	Command     []string  `json:"command,omitempty"`    // of the child processes
	Replicas    *Replicas `json:"replicas,omitempty"`   // where the journal is shared
	Error       string    `json:"error,omitempty"`
}

// Replicas is what a replica knows of itself among others.
type Replicas struct {
	LagBatches    uint64  `json:"lagBatches"`
	LagEvents     uint64  `json:"lagEvents"`
	LagSeconds    float64 `json:"lagSeconds"`
	ClockAheadMS  float64 `json:"clockAheadMs"` // of the stream's clock before this machine's
	ClockWithinMS float64 `json:"clockWithinMs"`
	Others        []Peer  `json:"others"`
}

// Peer is another replica.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	URL     string `json:"url,omitempty"` // where it takes forwarded requests
	State   string `json:"state"`         // there, silent or gone
	HeardMS int64  `json:"heardMs"`       // ago
}

// sessionOf is the public form of a folded session.
func sessionOf(s *replay.Session, live bool, now journal.Instant) Session {
	state := StateDormant
	switch {
	case live:
		state = StateLive
	case s.Expires() <= now:
		state = StateExpired
	}
	return Session{
		Ref: s.Ref.String(), Tenant: s.Tenant.String(), Label: s.Label, Principal: string(s.Principal),
		State: state, Source: s.Source.String(),
		CreatedAt: s.CreatedAt.Time(), LastAccess: s.LastAccess.Time(), ExpiresAt: s.Expires().Time(),
		TimeoutMS: s.Timeout.Milliseconds(), Calls: s.Calls, Epoch: uint64(s.Epoch), Replica: string(s.Replica),
		Protocol: s.Protocol,
	}
}

func detailOf(s *replay.Session, live bool, now journal.Instant) Detail {
	d := Detail{
		Session: sessionOf(s, live, now), Position: s.Position.String(), LogLevel: s.LogLevel,
		Subscriptions: s.Subscriptions, HasContext: len(s.Context) > 0, HasUpstream: len(s.Upstream) > 0,
		Key: string(s.ContextKey), Fingerprint: hexOf(s.Fingerprint[:]),
	}
	var params struct {
		ClientInfo   json.RawMessage `json:"clientInfo"`
		Capabilities json.RawMessage `json:"capabilities"`
	}
	if json.Unmarshal(s.Initialize, &params) == nil {
		d.Client, d.Capabilities = params.ClientInfo, params.Capabilities
	}
	return d
}
