package commit

import "github.com/dormouse-mcp/dormouse/journal"

// call is one Append, or one Flush (without events), from its beginning until it is settled. The
// committer's lock guards all fields but the last two.
type call struct {
	events []journal.Event // copies
	size   int
	after  uint64 // the number of accesses posted before it: they go first
	state  callState
	batch  *batch // that it is frozen in

	prev, next *call
	result     result        // there once done has been sent to
	done       chan struct{} // holds one
}

// settled reports whether the call's result is in done, or about to be.
func (k *call) settled() bool {
	return k.state == callSettled || k.state == callFrozen && k.batch.told
}

// settle gives the call its result. Its caller may use it for something else from now on.
func (k *call) settle(r result) {
	k.result = r
	k.done <- struct{}{}
}

type callState uint8

const (
	callQueued  callState = iota + 1
	callFrozen            // in the batch that goes out, or back out of it
	callSettled           // out of the queue with a result, and never in a batch
)

type result struct {
	pos journal.Position
	err error
}

// callQueue is a first-in first-out list from which any call can be removed at once, so that ten thousand
// callers who give up together cost ten thousand steps.
type callQueue struct {
	front, back *call
	events      int
	calls       int
}

func (q *callQueue) push(k *call) {
	k.state = callQueued
	k.prev, k.next = q.back, nil
	if q.back != nil {
		q.back.next = k
	} else {
		q.front = k
	}
	q.back = k
	q.events += len(k.events)
	q.calls++
}

func (q *callQueue) remove(k *call) {
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		q.front = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		q.back = k.prev
	}
	k.prev, k.next = nil, nil
	q.events -= len(k.events)
	q.calls--
}

// takeAll empties the queue and returns its calls, marked as settled.
func (q *callQueue) takeAll() []*call {
	var all []*call
	for k := q.front; k != nil; k = q.front {
		q.remove(k)
		k.state = callSettled
		all = append(all, k)
	}
	return all
}
