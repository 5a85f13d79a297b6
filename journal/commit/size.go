package commit

import (
	"fmt"

	"github.com/dormouse-mcp/dormouse/journal"
)

// What an event costs in the stored message, from above: the fixed fields of its wire form at their
// longest, and those of its part.
const (
	eventOverhead = 112
	partOverhead  = 192
	itemOverhead  = 4
)

// sizeOf returns an upper bound of what e takes in a stored batch before compression, in bytes.
func sizeOf(e *journal.Event) int {
	n := eventOverhead + len(e.Call.Method) + len(e.Call.Tool)
	if p := e.Created; p != nil {
		n += partOverhead + len(p.ID) + len(p.Context) + len(p.Label) + len(p.Key) + len(p.Principal) +
			len(p.Initialize) + len(p.Protocol)
	}
	if p := e.Changed; p != nil {
		n += partOverhead + len(p.Context) + len(p.Key) + len(p.Principal) + len(p.Initialize) +
			len(p.Protocol) + len(p.LogLevel) + sizeOfAll(p.Subscribed) + sizeOfAll(p.Unsubscribed)
	}
	if p := e.Bound; p != nil {
		n += partOverhead + len(p.Replica) + len(p.Upstream) + len(p.Key)
	}
	if p := e.Note; p != nil {
		n += partOverhead + len(p.Replica) + len(p.Version) + len(p.Who) + len(p.Text) + sizeOfAll(p.Keys)
	}
	return n
}

func sizeOfAll[S ~string](list []S) (n int) {
	for _, s := range list {
		n += itemOverhead + len(s)
	}
	return n
}

// measure returns the size of events that must stay in one batch, or why they cannot.
func measure(events []journal.Event) (int, error) {
	if len(events) > journal.MaxBatchEvents {
		return 0, fmt.Errorf("%w: %d events at once, %d fit in a batch", journal.ErrTooLarge, len(events), journal.MaxBatchEvents)
	}
	size := 0
	for i := range events {
		if events[i].Kind == 0 {
			return 0, fmt.Errorf("append: %w: an event without a kind", journal.ErrMalformed)
		}
		size += sizeOf(&events[i])
	}
	if size > journal.MaxBatchBytes {
		return 0, fmt.Errorf("%w: up to %d bytes, %d fit in a batch", journal.ErrTooLarge, size, journal.MaxBatchBytes)
	}
	return size, nil
}
