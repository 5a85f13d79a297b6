package journaltest

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Codec is a plain stand-in for journal/seal: a batch as gob, readable by anybody. It implements
// commit.Encoder and replay.Opener.
type Codec struct{}

// Encode returns h and events as one message.
func (Codec) Encode(h *journal.Header, events []journal.Event) ([]byte, error) {
	h.First, h.Last = events[0].At, events[0].At
	for i := range events {
		h.First, h.Last = min(h.First, events[i].At), max(h.Last, events[i].At)
	}
	h.Count = uint32(len(events))
	h.Refs = journal.MakeRefFilter(events)
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(journal.Batch{Header: *h, Events: events}); err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	return buf.Bytes(), nil
}

// Open returns what Encode was given.
func (Codec) Open(data []byte) (*journal.Batch, error) {
	var b journal.Batch
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&b); err != nil {
		return nil, fmt.Errorf("%w: %w", journal.ErrMalformed, err)
	}
	return &b, nil
}
