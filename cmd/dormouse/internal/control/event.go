package control

import (
	"encoding/hex"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// Event is one event of the history: a JSON line of `dormouse log --json`. Fields that do not fit the kind
// are left out.
type Event struct {
	Position string    `json:"position,omitempty"`
	At       time.Time `json:"at,omitzero"`     // the writer's clock
	Stored   time.Time `json:"stored,omitzero"` // the stream's clock
	Kind     string    `json:"kind,omitempty"`
	Ref      string    `json:"ref,omitempty"`
	Writer   string    `json:"writer,omitempty"`
	Epoch    uint64    `json:"epoch,omitempty"`
	Refused  string    `json:"refused,omitempty"` // why the fold did not accept it

	Call    *Call    `json:"call,omitempty"`
	Created *Created `json:"created,omitempty"`
	Changed []string `json:"changed,omitempty"` // names of what was replaced, never the values
	Bound   *Bound   `json:"bound,omitempty"`
	Basis   string   `json:"basis,omitempty"` // expired: the last access that the writer saw
	Reason  string   `json:"reason,omitempty"`
	Note    *Note    `json:"note,omitempty"`

	// Error is set in the last line of a log that broke off; nothing else is then.
	Error string `json:"error,omitempty"`
}

// Call is a request or its completion.
type Call struct {
	Number     uint64  `json:"number"`
	Method     string  `json:"method"`
	Tool       string  `json:"tool,omitempty"`
	Outcome    string  `json:"outcome,omitempty"`
	DurationMS float64 `json:"durationMs,omitempty"`
}

// Created says how a session began.
type Created struct {
	Source    string `json:"source"`
	Tenant    string `json:"tenant"`
	Label     string `json:"label,omitempty"`
	Principal string `json:"principal,omitempty"`
	Protocol  string `json:"protocol,omitempty"`
	TimeoutMS int64  `json:"timeoutMs"`
}

// Bound says who claimed an epoch, or that the upstream's session was recorded at it.
type Bound struct {
	Replica  string `json:"replica,omitempty"`
	Upstream bool   `json:"upstream"` // the upstream's session was recorded
}

// Note is what an event for the record says.
type Note struct {
	Replica string   `json:"replica,omitempty"`
	Version string   `json:"version,omitempty"`
	Kinds   string   `json:"kinds,omitempty"` // the newest kind that the replica knows
	Count   uint64   `json:"count,omitempty"`
	Tenant  string   `json:"tenant,omitempty"`
	Keys    []string `json:"keys,omitempty"`
	From    uint64   `json:"from,omitempty"`
	To      uint64   `json:"to,omitempty"`
	Who     string   `json:"who,omitempty"`
	Text    string   `json:"text,omitempty"`
}

// EventOf is the public form of an entry of the history.
func EventOf(en *audit.Entry) Event {
	e := &en.Event
	out := Event{
		Position: en.Position.String(), At: e.At.Time(), Stored: en.Stored.Time(), Kind: e.Kind.String(),
		Writer: en.Writer.String(), Epoch: uint64(e.Epoch), Refused: refusalOf(en),
	}
	if !e.Ref.IsZero() {
		out.Ref = e.Ref.String()
	}
	switch e.Kind {
	case journal.KindCreated:
		out.Created = createdOf(e.Created)
	case journal.KindOpened, journal.KindAccessed:
		out.Call = callOf(&e.Call)
	case journal.KindChanged:
		out.Changed = changesOf(e.Changed)
	case journal.KindBound:
		out.Bound = boundOf(e.Bound)
	case journal.KindExpired:
		out.Basis = e.Basis.String()
	case journal.KindClosed:
		out.Reason = e.Reason.String()
	default:
		out.Note = noteOf(e.Note)
	}
	return out
}

func createdOf(c *journal.Created) *Created {
	if c == nil {
		return nil
	}
	return &Created{
		Source: c.Source.String(), Tenant: c.Tenant.String(), Label: c.Label, Principal: string(c.Principal),
		Protocol: c.Protocol, TimeoutMS: c.Timeout.Milliseconds(),
	}
}

func callOf(c *journal.Call) *Call {
	out := &Call{Number: c.Number, Method: c.Method, Tool: c.Tool, DurationMS: float64(c.Duration.Microseconds()) / 1000}
	if c.Outcome != 0 {
		out.Outcome = c.Outcome.String()
	}
	return out
}

func changesOf(c *journal.Changed) (names []string) {
	if c == nil {
		return nil
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"context", len(c.Context) > 0},
		{"principal", c.Principal != ""},
		{"initialize", len(c.Initialize) > 0},
		{"log level", c.LogLevel != ""},
		{"subscribed", len(c.Subscribed) > 0},
		{"unsubscribed", len(c.Unsubscribed) > 0},
	} {
		if f.set {
			names = append(names, f.name)
		}
	}
	return names
}

func boundOf(b *journal.Bound) *Bound {
	if b == nil {
		return nil
	}
	return &Bound{Replica: string(b.Replica), Upstream: len(b.Upstream) > 0}
}

func noteOf(n *journal.Note) *Note {
	if n == nil {
		return nil
	}
	out := &Note{
		Replica: string(n.Replica), Version: n.Version, Count: n.Count, From: uint64(n.From), To: uint64(n.To),
		Who: n.Who, Text: n.Text,
	}
	if n.Kinds != 0 {
		out.Kinds = n.Kinds.String()
	}
	if n.Tenant != (journal.TenantID{}) {
		out.Tenant = n.Tenant.String()
	}
	for _, k := range n.Keys {
		out.Keys = append(out.Keys, string(k))
	}
	return out
}

// refusalOf says why the fold did not accept an event, if it was asked.
func refusalOf(en *audit.Entry) string {
	if !en.Judged || en.Accepted {
		return ""
	}
	return string(en.Refusal)
}

func hexOf(b []byte) string {
	for _, c := range b {
		if c != 0 {
			return hex.EncodeToString(b)
		}
	}
	return ""
}
