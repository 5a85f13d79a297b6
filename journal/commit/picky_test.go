package commit_test

import (
	"errors"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

var errPicky = errors.New("not number 13")

// picky is an encoder that refuses event 13.
type picky struct{ journaltest.Codec }

func (p picky) Encode(h *journal.Header, events []journal.Event) ([]byte, error) {
	for _, e := range events {
		if e.Call.Number == 13 {
			return nil, errPicky
		}
	}
	return p.Codec.Encode(h, events)
}
