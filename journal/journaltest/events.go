package journaltest

import (
	"encoding/json"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Event draws any event that a writer may write: each kind with the part that it is about, and any values
// in it, whether they make sense to the fold or not.
func Event(t *rapid.T) journal.Event {
	e := journal.Event{
		Kind:  journal.Kind(rapid.IntRange(1, int(journal.LastKind)).Draw(t, "kind")),
		At:    journal.Instant(rapid.Int64Range(0, 1<<42).Draw(t, "at")),
		Epoch: journal.Epoch(number(t)),
	}
	if e.Kind.ForRecord() {
		e.Note = note(t)
		return e
	}
	name(t, "ref", e.Ref[:])
	switch e.Kind {
	case journal.KindCreated:
		e.Created = created(t)
	case journal.KindOpened, journal.KindAccessed:
		e.Call = call(t)
	case journal.KindChanged:
		e.Changed = changed(t)
	case journal.KindBound:
		e.Bound = &journal.Bound{Replica: journal.ReplicaID(text(t)), Upstream: blob(t), Key: keyID(t)}
	case journal.KindExpired:
		e.Basis = journal.Instant(rapid.Int64().Draw(t, "basis"))
	case journal.KindClosed:
		e.Reason = journal.Reason(rapid.Byte().Draw(t, "reason"))
	default: // KindTouched says it all by its kind
	}
	return e
}

// Events draws between one and limit events.
func Events(t *rapid.T, limit int) []journal.Event {
	return rapid.SliceOfN(rapid.Custom(Event), 1, limit).Draw(t, "events")
}

func created(t *rapid.T) *journal.Created {
	c := &journal.Created{
		Source:     journal.Source(rapid.Byte().Draw(t, "source")),
		ID:         blob(t),
		Context:    blob(t),
		Label:      text(t),
		Key:        keyID(t),
		Principal:  journal.Principal(text(t)),
		Initialize: json.RawMessage(blob(t)),
		Protocol:   text(t),
		Timeout:    time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "timeout")) * time.Millisecond,
		CreatedAt:  journal.Instant(rapid.Int64().Draw(t, "created")),
		LastAccess: journal.Instant(rapid.Int64().Draw(t, "last")),
	}
	name(t, "tenant", c.Tenant[:])
	name(t, "url", c.URLHash[:])
	name(t, "fingerprint", c.Fingerprint[:])
	return c
}

func call(t *rapid.T) journal.Call {
	return journal.Call{
		Number:   number(t),
		Method:   text(t),
		Tool:     text(t),
		Outcome:  journal.Outcome(rapid.Byte().Draw(t, "outcome")),
		Duration: time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "duration")) * time.Microsecond,
	}
}

func changed(t *rapid.T) *journal.Changed {
	c := &journal.Changed{
		Context:      blob(t),
		Key:          keyID(t),
		Principal:    journal.Principal(text(t)),
		Initialize:   json.RawMessage(blob(t)),
		Protocol:     text(t),
		LogLevel:     text(t),
		Subscribed:   list(t),
		Unsubscribed: list(t),
	}
	name(t, "tenant", c.Tenant[:])
	name(t, "url", c.URLHash[:])
	name(t, "fingerprint", c.Fingerprint[:])
	return c
}

func note(t *rapid.T) *journal.Note {
	n := &journal.Note{
		Replica: journal.ReplicaID(text(t)),
		Version: text(t),
		Kinds:   journal.Kind(rapid.Byte().Draw(t, "kinds")),
		Count:   number(t),
		From:    journal.Seq(number(t)),
		To:      journal.Seq(number(t)),
		Who:     text(t),
		Text:    text(t),
	}
	name(t, "tenant", n.Tenant[:])
	for range rapid.IntRange(0, 3).Draw(t, "keys") {
		n.Keys = append(n.Keys, keyID(t))
	}
	return n
}

func number(t *rapid.T) uint64 { return rapid.Uint64().Draw(t, "number") }

func text(t *rapid.T) string { return rapid.StringN(0, -1, 200).Draw(t, "text") }

func keyID(t *rapid.T) journal.KeyID {
	return journal.KeyID(rapid.StringMatching(`[a-z0-9-]{0,17}`).Draw(t, "key"))
}

// blob draws bytes, nil when there are none: the wire does not tell nil from empty.
func blob(t *rapid.T) []byte {
	if b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes"); len(b) > 0 {
		return b
	}
	return nil
}

func list(t *rapid.T) []string {
	if l := rapid.SliceOfN(rapid.Custom(text), 0, 3).Draw(t, "list"); len(l) > 0 {
		return l
	}
	return nil
}

// name fills dst, with zeros in one of four draws.
func name(t *rapid.T, label string, dst []byte) {
	if rapid.IntRange(0, 3).Draw(t, label+" set") > 0 {
		copy(dst, rapid.SliceOfN(rapid.Byte(), len(dst), len(dst)).Draw(t, label))
	}
}
