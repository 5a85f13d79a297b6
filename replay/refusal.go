package replay

import (
	"maps"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Refusal is why an event changed nothing. The empty Refusal means that it was accepted.
type Refusal string

// The refusals. Their text is stable: metrics, logs and the audit show it.
const (
	// RefusedRepeated: its batch has a number that its writer used before. The whole batch is refused.
	RefusedRepeated Refusal = "repeated-batch"
	// RefusedWriter: its writer was silent for so long that its chain is forgotten, see [WriterMemory], or
	// it is an old batch of such a writer. The whole batch is refused; restart that replica, which makes it
	// a new writer.
	RefusedWriter Refusal = "forgotten-writer"
	// RefusedMalformed: it lacks what its kind needs.
	RefusedMalformed Refusal = "malformed"
	// RefusedUnknown: there is no such session, and none is remembered.
	RefusedUnknown Refusal = "unknown-session"
	// RefusedEnded: the session has ended. For a created event: a session of that ref has.
	RefusedEnded Refusal = "ended"
	// RefusedPresent: created again although the session is present.
	RefusedPresent Refusal = "already-present"
	// RefusedExpired: an import that has timed out at journal time.
	RefusedExpired Refusal = "expired-import"
	// RefusedForgotten: an import so old that nobody can tell whether the session had ended meanwhile.
	RefusedForgotten Refusal = "older-than-memory"
	// RefusedErased: something in it is sealed under an erased key.
	RefusedErased Refusal = "key-erased"
	// RefusedEpoch: it happened under an older binding.
	RefusedEpoch Refusal = "older-epoch"
	// RefusedClaim: a claim of an epoch that is not the next one: another claim was first.
	RefusedClaim Refusal = "claim-lost"
	// RefusedBinding: a record of an upstream session by a replica that does not hold the epoch, or a
	// second one.
	RefusedBinding Refusal = "not-the-binding"
	// RefusedAccessed: an expiry, but the session was accessed after what its writer saw.
	RefusedAccessed Refusal = "accessed-since"
	// RefusedNotDue: an expiry before the session has timed out at journal time.
	RefusedNotDue Refusal = "not-due"
	// RefusedTenant: a change that names another tenant than the session's.
	RefusedTenant Refusal = "other-tenant"
	// RefusedURL: a change that names another URL hash than the session's.
	RefusedURL Refusal = "other-url"
	// UnknownKind: its kind is newer than this release. Counted in Stats.Unknown, not as refused.
	UnknownKind Refusal = "unknown-kind"

	accepted Refusal = ""
)

// Stats counts what a state has folded.
type Stats struct {
	Batches  uint64 // messages, refused ones included
	Events   uint64
	Accepted map[journal.Kind]uint64
	Refused  map[Refusal]uint64
	Unknown  uint64 // events of kinds that this release does not know
	Lost     uint64 // messages whose loss was accepted
}

// counters is the working form of Stats: an accepted event touches no map.
type counters struct {
	batches  uint64
	events   uint64
	accepted [journal.LastKind + 1]uint64
	refused  map[Refusal]uint64
	unknown  uint64
	lost     uint64
}

func (c *counters) count(k journal.Kind, why Refusal) {
	c.events++
	switch why {
	case accepted:
		c.accepted[k]++
	case UnknownKind:
		c.unknown++
	default:
		c.refused[why]++
	}
}

func (c *counters) stats() Stats {
	s := Stats{
		Batches: c.batches, Events: c.events, Unknown: c.unknown, Lost: c.lost,
		Accepted: make(map[journal.Kind]uint64), Refused: maps.Clone(c.refused),
	}
	for k, n := range c.accepted {
		if n > 0 {
			s.Accepted[journal.Kind(k)] = n
		}
	}
	return s
}
