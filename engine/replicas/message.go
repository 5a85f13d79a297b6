package replicas

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Wire carries short messages to all replicas, itself included, at most once and in no certain order. Safe for
// concurrent use.
type Wire interface {
	Tell(data []byte) error
	// Hear calls fn with each message, one at a time, until stop is called.
	Hear(fn func(data []byte)) (stop func(), err error)
	// Answer has calls to name answered until stop is called.
	Answer(name string) (stop func(), err error)
	// Call reports whether somebody answers to name: false = surely nobody does. An error leaves it open.
	Call(ctx context.Context, name string) (there bool, err error)
}

// message is what a replica tells the others.
type message struct {
	Replica journal.ReplicaID `json:"replica"`
	Boot    string            `json:"boot"`             // names this run of it
	Started time.Time         `json:"started,omitzero"` // by its own clock
	Version string            `json:"version,omitempty"`
	Kinds   journal.Kind      `json:"kinds,omitempty"`  // the newest kind of event that it knows
	URL     string            `json:"url,omitempty"`    // where it takes forwarded requests; empty = nowhere
	Leaving bool              `json:"leaving,omitzero"` // it serves no local runtime any more
	Asks    bool              `json:"asks,omitzero"`    // it has just started: who is there?
	Seq     journal.Seq       `json:"seq"`              // folded
	Events  uint64            `json:"events"`           // folded
	Left    []leaver          `json:"left,omitempty"`   // replicas that it knows to have left
	At      time.Duration     `json:"at"`               // since the run began; later in each message than in the one before
	Echoes  []echo            `json:"echoes,omitempty"` // of those whom it hears
}

// leaver is a run of a replica that has left.
type leaver struct {
	Replica journal.ReplicaID `json:"replica"`
	Boot    string            `json:"boot"`
	Ago     time.Duration     `json:"ago"` // how long that has been known
}

// echo proves to a run that a message is newer than one of its own.
type echo struct {
	Boot string        `json:"boot"`
	At   time.Duration `json:"at"` // of the newest message that was heard from it
}

var errForged = errors.New("not from a replica of this deployment")

// encode puts an HMAC under key in front.
func (m *message) encode(key []byte) ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("replica message: %w", err)
	}
	return append(sign(key, text), text...), nil
}

func decode(key, data []byte) (m message, err error) {
	if len(data) < sha256.Size || !hmac.Equal(data[:sha256.Size], sign(key, data[sha256.Size:])) {
		return m, errForged
	}
	if err := json.Unmarshal(data[sha256.Size:], &m); err != nil {
		return m, fmt.Errorf("replica message: %w", err)
	}
	return m, nil
}

func sign(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("dormouse replica message v2\x00"))
	mac.Write(text)
	return mac.Sum(nil)
}
