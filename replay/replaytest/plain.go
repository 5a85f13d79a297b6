package replaytest

import (
	"encoding/binary"
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Encode returns the message of a batch, not encrypted. It sets the header's First, Last, Count and Refs.
// It panics if the events have no wire form.
func Encode(h journal.Header, events []journal.Event) []byte {
	h.First, h.Last = span(events)
	h.Count = uint32(len(events))
	h.Refs = journal.MakeRefFilter(events)
	meta, _, err := journal.AppendEvents(nil, h.First, events)
	if err != nil {
		panic(err)
	}
	data := journal.AppendHeader(nil, &h)
	data = binary.AppendUvarint(data, uint64(len(meta)))
	return journal.AppendSealed(append(data, meta...), events)
}

func span(events []journal.Event) (first, last journal.Instant) {
	first, last = events[0].At, events[0].At
	for i := range events {
		first, last = min(first, events[i].At), max(last, events[i].At)
	}
	return first, last
}

// Opener opens what Encode made. It is a replay.Opener.
type Opener struct{}

// Open decodes the message.
func (Opener) Open(data []byte) (*journal.Batch, error) {
	h, at, err := journal.ParseHeader(data)
	if err != nil {
		return nil, err
	}
	size, n := binary.Uvarint(data[at:])
	if n <= 0 || size > uint64(len(data)-at-n) {
		return nil, fmt.Errorf("plain batch: %w", journal.ErrMalformed)
	}
	meta := data[at+n:]
	return journal.DecodeEvents(&h, meta[:size:size], meta[size:])
}

// Writer makes the batches of one writer, each chained to the one before.
type Writer struct {
	Journal  journal.ID
	ID       journal.WriterID
	Number   uint64 // of the last batch
	Previous journal.Digest
}

// Batch returns the writer's next message.
func (w *Writer) Batch(basis journal.Basis, events ...journal.Event) []byte {
	w.Number++
	data := Encode(journal.Header{
		Journal: w.Journal, Writer: w.ID, Number: w.Number, Previous: w.Previous, Basis: basis,
	}, events)
	w.Previous = journal.DigestOf(data)
	return data
}
