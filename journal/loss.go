package journal

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// Loss is damage to a journal's history that an operator accepted. It is recorded outside the stream of
// batches, for ever, and every reader knows all losses before it folds: so all compute the same state and
// the same history root again.
type Loss struct {
	Number  uint32 // counts the journal's losses from 1
	Journal ID
	Kind    LossKind
	From    Seq // the first message that is concerned
	To      Seq // the last one
	// Last is the stream's last sequence at the acceptance. Batches up to it may have been written by those
	// who had folded the history as it was before.
	Last     Seq
	Batches  uint64 // lost, at least
	Events   uint64 // lost, at least
	Sessions uint64 // lost, at least
	When     Instant
	Replica  ReplicaID
	Text     string // for people: what was wrong
}

// LossKind says what became of the messages that a loss names. Zero is invalid.
type LossKind uint8

// The kinds of losses.
const (
	// LossHole: they are gone, or no batches of this journal any more. Readers pass over them, and the
	// history tree has LostDigest in their places.
	LossHole LossKind = iota + 1
	// LossTail: the stream ended in front of them. Their sequences are used again.
	LossTail
	// LossChange: what is there is read, but it is not all that was written, or not in its order. Readers do
	// not compare the histories of writers that knew it otherwise.
	LossChange
)

// LostDigest stands in the history tree for a message that is lost.
func LostDigest() Digest { return sha256.Sum256([]byte("dormouse lost batch v1\x00")) }

func lossKindNames() [4]string {
	return [...]string{LossHole: "hole", LossTail: "tail", LossChange: "change"}
}

func (k LossKind) String() string {
	names := lossKindNames()
	return name(names[:], uint8(k), "loss")
}

// AppendLoss appends the stored form of a loss to dst: one line of JSON, without a newline.
func AppendLoss(dst []byte, l Loss) []byte {
	return appendJSON(dst, lossJSON{
		Number: l.Number, Journal: l.Journal.String(), Kind: l.Kind.String(), From: l.From, To: l.To, Last: l.Last,
		Batches: l.Batches, Events: l.Events, Sessions: l.Sessions, When: l.When.String(), Replica: l.Replica, Text: l.Text,
	})
}

// ParseLoss reads what AppendLoss wrote. It skips fields it does not know and fails with ErrMalformed, for
// an unknown kind too: who does not know it cannot read on.
func ParseLoss(data []byte) (l Loss, err error) {
	var j lossJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return l, fmt.Errorf("accepted loss: %w: %w", ErrMalformed, err)
	}
	l = Loss{
		Number: j.Number, From: j.From, To: j.To, Last: j.Last, Batches: j.Batches, Events: j.Events,
		Sessions: j.Sessions, Replica: j.Replica, Text: j.Text,
	}
	for k, n := range lossKindNames() {
		if n != "" && n == j.Kind {
			l.Kind = LossKind(k)
		}
	}
	if l.Journal, err = ParseID(j.Journal); err != nil {
		return Loss{}, fmt.Errorf("accepted loss: %w", err)
	}
	if l.When, err = parseInstant(j.When); err != nil {
		return Loss{}, fmt.Errorf("accepted loss: %w", err)
	}
	if l.Kind == 0 || l.Number == 0 || l.From == 0 || l.To < l.From {
		return Loss{}, fmt.Errorf("accepted loss %d: %w: kind %q, messages %d to %d", l.Number, ErrMalformed, clip(j.Kind), l.From, l.To)
	}
	return l, nil
}

type lossJSON struct {
	Number   uint32    `json:"number"`
	Journal  string    `json:"journal"`
	Kind     string    `json:"kind"`
	From     Seq       `json:"from"`
	To       Seq       `json:"to"`
	Last     Seq       `json:"last"`
	Batches  uint64    `json:"batches,omitempty"`
	Events   uint64    `json:"events,omitempty"`
	Sessions uint64    `json:"sessions,omitempty"`
	When     string    `json:"when"`
	Replica  ReplicaID `json:"replica"`
	Text     string    `json:"text,omitempty"`
}

// ErrLossExists says that a loss of that number is recorded already. Nothing was changed: read them again.
var ErrLossExists = errors.New("a loss of that number is recorded")
