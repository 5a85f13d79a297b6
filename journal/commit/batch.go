package commit

import "github.com/dormouse-mcp/dormouse/journal"

// posted returns the batch's events that belong to no call.
func (b *batch) posted() []journal.Event {
	if len(b.calls) == 0 {
		return b.events
	}
	var posted []journal.Event
	from := 0
	for _, p := range b.calls {
		posted = append(posted, b.events[from:p.first]...)
		from = p.first + p.n
	}
	return append(posted, b.events[from:]...)
}

// halves splits a batch in two between its parts, a part being a call or a posted event. A batch of one
// part stays whole, and right is nil. The lock is held.
func (b *batch) halves() (left, right *batch) {
	starts := b.starts()
	if len(starts) < 2 {
		return b, nil
	}
	at := starts[len(starts)/2]
	left = &batch{events: b.events[:at:at], frozenAt: b.frozenAt}
	right = &batch{events: b.events[at:], frozenAt: b.frozenAt}
	for _, p := range b.calls {
		if p.first < at {
			p.call.batch = left
			left.calls = append(left.calls, p)
		} else {
			p.call.batch = right
			right.calls = append(right.calls, placed{call: p.call, first: p.first - at, n: p.n})
		}
	}
	for _, half := range []*batch{left, right} {
		for i := range half.events {
			half.size += sizeOf(&half.events[i])
		}
	}
	return left, right
}

// starts returns the index of each part's first event.
func (b *batch) starts() []int {
	var starts []int
	calls := b.calls
	for i := 0; i < len(b.events); {
		for len(calls) > 0 && calls[0].first == i && calls[0].n == 0 {
			calls = calls[1:]
		}
		starts = append(starts, i)
		if len(calls) > 0 && calls[0].first == i {
			i += calls[0].n
			calls = calls[1:]
		} else {
			i++
		}
	}
	return starts
}

// settled returns the calls that are not settled yet, and counts them as settled. The lock is held.
func (b *batch) settled() []placed {
	if b.told {
		return nil
	}
	b.told = true
	return b.calls
}
