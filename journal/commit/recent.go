package commit

import (
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// recent remembers the events of this writer's newest batches until the follower has taken them.
type recent struct {
	maxBatches, maxBytes int

	mu      sync.Mutex
	batches []kept // by number, ascending
	bytes   int
}

type kept struct {
	number uint64
	digest func() journal.Digest
	events []journal.Event
	size   int
}

func (r *recent) put(k kept) {
	if r.maxBatches < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, k)
	r.bytes += k.size
	for len(r.batches) > r.maxBatches || r.bytes > r.maxBytes && len(r.batches) > 0 {
		r.removeAt(0)
	}
}

func (r *recent) take(number uint64, digest journal.Digest) ([]journal.Event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.batches {
		if r.batches[i].number != number {
			continue
		}
		if r.batches[i].digest() != digest {
			return nil, false
		}
		events := r.batches[i].events
		r.removeAt(i)
		return events, true
	}
	return nil, false
}

// drop forgets a batch that was not stored.
func (r *recent) drop(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := len(r.batches) - 1; i >= 0 && r.batches[i].number == number {
		r.removeAt(i)
	}
}

func (r *recent) removeAt(i int) {
	r.bytes -= r.batches[i].size
	n := copy(r.batches[i:], r.batches[i+1:]) + i
	r.batches[n] = kept{}
	r.batches = r.batches[:n]
}
