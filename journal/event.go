package journal

import (
	"encoding/json"
	"time"
)

// Event is one fact. Kind tells which of the fields below Ref and Epoch are used; the others are zero.
// An Event is never changed after it was handed to a committer or returned by a reader.
type Event struct {
	Kind  Kind
	Ref   Ref     // zero in events for the record
	At    Instant // the writer's clock
	Epoch Epoch   // the binding under which it happened, or that it claims

	Call    Call     // KindOpened, KindAccessed
	Created *Created // KindCreated
	Changed *Changed // KindChanged
	Bound   *Bound   // KindBound
	Basis   Instant  // KindExpired: the last access that the writer saw
	Reason  Reason   // KindClosed
	Note    *Note    // kinds for the record
}

// Kind says what happened. The numbers are on the wire and never change; zero is invalid.
type Kind uint8

// The kinds. docs/architecture.md says when the fold accepts each.
const (
	KindCreated Kind = iota + 1
	KindOpened
	KindAccessed
	KindTouched
	KindChanged
	KindBound
	KindExpired
	KindClosed
	KindReplicaStarted
	KindReplicaStopped
	KindExported
	KindImported
	KindKeyRotated
	KindTenantErased
	KindLossAccepted
	KindHistoryRead

	kindEnd
)

// LastKind is the highest kind that this release knows.
const LastKind = kindEnd - 1

// Created begins a session. What is Sealed is under the tenant's data key Key.
type Created struct {
	Source      Source
	ID          Sealed          // the SessionID
	Context     Sealed          // the instance context as JSON; empty when there is none
	Tenant      TenantID        //
	Label       string          // the tenant's name for people: its instance ID or token name; may be empty
	Key         KeyID           // which of the tenant's data keys sealed ID and Context
	Fingerprint Fingerprint     // of that key
	URLHash     URLHash         //
	Principal   Principal       // empty in imports until the first request
	Initialize  json.RawMessage // the params of the initialize request; nil in imports until the first request
	Protocol    string          // the negotiated MCP protocol version; empty in imports likewise
	Timeout     time.Duration   // idle time after which the session expires; whole milliseconds
	CreatedAt   Instant
	LastAccess  Instant // equal to CreatedAt but for imports
}

// Call describes a request (KindOpened) or its completion (KindAccessed).
type Call struct {
	Number   uint64        // pairs the two events of one request; counts up within a writer
	Method   string        // the JSON-RPC method, or "GET" and "DELETE" for those requests
	Tool     string        // the tool's name in tools/call
	Outcome  Outcome       // zero in KindOpened
	Duration time.Duration // zero in KindOpened; whole microseconds
}

// Changed replaces what is set in it and leaves the rest. Tenant and URLHash must equal the session's.
type Changed struct {
	Tenant       TenantID
	URLHash      URLHash
	Context      Sealed // new credentials; with Key and Fingerprint
	Key          KeyID
	Fingerprint  Fingerprint
	Principal    Principal       // a first principal, for an import; or a rotated one
	Initialize   json.RawMessage // with Protocol
	Protocol     string
	LogLevel     string   // the level of logging/setLevel
	Subscribed   []string // URIs of resources/subscribe
	Unsubscribed []string
}

// Bound claims the next epoch for a replica (Upstream empty), or records the upstream's session at the
// current epoch.
type Bound struct {
	Replica  ReplicaID
	Upstream Sealed // the upstream's session ID, under the tenant's data key Key
	Key      KeyID
}

// Note is what an event for the record says. Fields that do not fit the kind are zero.
type Note struct {
	Replica ReplicaID
	Version string   // KindReplicaStarted: the release
	Kinds   Kind     // KindReplicaStarted: the highest kind that it knows
	Count   uint64   // sessions exported, imported, closed, lost at least
	Tenant  TenantID // KindTenantErased
	Keys    []KeyID  // KindTenantErased, KindKeyRotated
	From    Seq      // KindLossAccepted: first sequence that is lost
	To      Seq      // KindLossAccepted: last sequence that is lost
	Who     string   // who asked
	Text    string
}

// Sealed is ciphertext under a tenant's data key; see journal/seal. Empty means that there is nothing.
type Sealed []byte

// Source says where a session came from. Zero is invalid.
type Source uint8

// The sources.
const (
	SourceClient Source = iota + 1 // an initialize request
	SourceImport                   // RestoreSessionState or a file
)

// Reason says why a session was closed. Zero is invalid.
type Reason uint8

// The reasons.
const (
	ReasonClient  Reason = iota + 1 // the client's DELETE
	ReasonAdmin                     // an operator
	ReasonEvicted                   // the upstream can no longer serve it
	ReasonErased                    // its tenant was erased
	ReasonLostKey                   // its tenant's key is lost, and an operator accepted that
)

// Outcome says how a request ended. Zero means that it has not.
type Outcome uint8

// The outcomes.
const (
	OutcomeOK          Outcome = iota + 1
	OutcomeToolError           // a result with isError
	OutcomeRPCError            // a JSON-RPC error from the upstream
	OutcomeRefused             // refused by the gateway
	OutcomeUnavailable         // the upstream could not be reached
	OutcomeCanceled            // the client went away
	OutcomeBroken              // the upstream's answer broke off
)
