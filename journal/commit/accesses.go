package commit

import "github.com/dormouse-mcp/dormouse/journal"

// accesses holds posted events until they go out: a queue in one slice, whose front is events[head].
// Every posted event has a number; those still here are numbered first, first+1 and so on.
type accesses struct {
	events []journal.Event
	head   int
	first  uint64
}

func (a *accesses) len() int { return len(a.events) - a.head }

// end returns the number that the next posted event gets.
func (a *accesses) end() uint64 { return a.first + uint64(a.len()) }

func (a *accesses) front() *journal.Event { return &a.events[a.head] }

func (a *accesses) post(e journal.Event) {
	if len(a.events) == cap(a.events) && a.head > len(a.events)/2 {
		a.shift()
	}
	a.events = append(a.events, e)
}

// shift moves what waits to the beginning of the slice.
func (a *accesses) shift() {
	n := copy(a.events, a.events[a.head:])
	clear(a.events[n:])
	a.events, a.head = a.events[:n], 0
}

// pop drops the front, which the caller has copied.
func (a *accesses) pop() {
	a.events[a.head] = journal.Event{}
	a.head++
	a.first++
	if a.head == len(a.events) {
		a.events, a.head = a.events[:0], 0
	}
}

// putBack returns events that were popped last to the front, in their order.
func (a *accesses) putBack(back []journal.Event) {
	if len(back) == 0 {
		return
	}
	if a.head < len(back) {
		waiting, n := a.events[a.head:], len(back)+a.len()
		room := a.events
		if cap(room) < n { // an outage puts back again and again: room must not grow each time
			room = make([]journal.Event, n)
		}
		copy(room[len(back):n], waiting)
		a.events, a.head = room[:n], len(back)
	}
	a.head -= len(back)
	copy(a.events[a.head:], back)
	a.first -= uint64(len(back))
}

// shrink drops events until at most limit are left: first those for whose session a newer access waits
// (superseded), then the oldest accesses, at last the oldest of any kind (lost). moved maps the number of
// an event that was here before, or end, to the number that it has now.
func (a *accesses) shrink(limit int) (superseded, lost int, moved func(uint64) uint64) {
	waiting := a.events[a.head:]
	drop := make([]bool, len(waiting))
	superseded = markSuperseded(waiting, drop)
	excess := len(waiting) - superseded - limit
	for _, only := range []func(journal.Kind) bool{isAccess, isAny} {
		for i := 0; i < len(waiting) && lost < excess; i++ {
			if !drop[i] && only(waiting[i].Kind) {
				drop[i] = true
				lost++
			}
		}
	}
	before := make([]int, len(waiting)+1) // kept events before each
	kept := 0
	for i := range waiting {
		before[i] = kept
		if !drop[i] {
			waiting[kept] = waiting[i]
			kept++
		}
	}
	before[len(waiting)] = kept
	clear(waiting[kept:])
	a.events = a.events[:a.head+kept]
	return superseded, lost, func(n uint64) uint64 {
		if n < a.first {
			return n
		}
		return a.first + uint64(before[n-a.first])
	}
}

func markSuperseded(waiting []journal.Event, drop []bool) (n int) {
	seen := make(map[journal.Ref]struct{}, len(waiting)/4)
	for i := len(waiting) - 1; i >= 0; i-- {
		if !isAccess(waiting[i].Kind) {
			continue
		}
		if _, newer := seen[waiting[i].Ref]; newer {
			drop[i] = true
			n++
		}
		seen[waiting[i].Ref] = struct{}{}
	}
	return n
}

func isAccess(k journal.Kind) bool {
	return k == journal.KindOpened || k == journal.KindAccessed || k == journal.KindTouched
}

func isAny(journal.Kind) bool { return true }
