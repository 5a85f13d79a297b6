package replay

import (
	"iter"
	"math"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// bucket is a span of bucketWidth in which sessions expire, numbered from the epoch of journal.Instant.
type bucket int64

// bucketWidth is a second: fine enough for any timeout, and half an hour is only 1,800 buckets.
const bucketWidth journal.Instant = 1000

// overdue is the bucket of sessions that had timed out by journal time and wait for their expired event.
const overdue bucket = math.MinInt64

func bucketOf(i journal.Instant) bucket { return bucket(i / bucketWidth) }

// due orders sessions by expiry, lazily: an access leaves a session where it is, and only when journal
// time passes its bucket is it moved to where it belongs by then. So a session moves at most once a timeout, and
// asking for what is due costs what is due.
type due struct {
	buckets map[bucket][]place
	queue   minHeap // the buckets' numbers, overdue aside
}

func newDue() due { return due{buckets: make(map[bucket][]place)} }

func (t *table) schedule(p place) {
	t.put(p, bucketOf(t.at(p).expires()))
}

func (t *table) put(p place, b bucket) {
	list, ok := t.due.buckets[b]
	if !ok && b != overdue {
		t.due.queue.push(b)
	}
	r := t.at(p)
	r.bucket, r.slot = b, uint32(len(list))
	t.due.buckets[b] = append(list, p)
}

// unschedule takes a record out of its bucket. An emptied bucket stays until its time has passed.
func (t *table) unschedule(p place) {
	r := t.at(p)
	list := t.due.buckets[r.bucket]
	last := len(list) - 1
	moved := list[last]
	list[r.slot] = moved
	t.at(moved).slot = r.slot
	t.due.buckets[r.bucket] = list[:last]
}

// accessed tells that the record's last access has moved forward.
func (t *table) accessed(r *record) {
	if r.bucket == overdue {
		_, p, _ := t.find(t.index.hash(&r.ref), &r.ref)
		t.unschedule(p)
		t.schedule(p)
	}
}

// advance empties the buckets that journal time has passed.
func (t *table) advance(now journal.Instant) {
	for len(t.due.queue) > 0 && t.due.queue[0] < bucketOf(now) {
		b := t.due.queue.pop()
		list := t.due.buckets[b]
		delete(t.due.buckets, b)
		for _, p := range list {
			to := bucketOf(t.at(p).expires())
			if to <= b {
				to = overdue
			}
			t.put(p, to)
		}
	}
}

// expired yields the records that have expired by now, roughly by age. It changes nothing.
func (t *table) expired(now journal.Instant) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		passed := t.due.queue.upTo(bucketOf(now), nil)
		slices.Sort(passed)
		for _, b := range append([]bucket{overdue}, passed...) {
			for _, p := range t.due.buckets[b] {
				if r := t.at(p); r.expires() <= now && !yield(r) {
					return
				}
			}
		}
	}
}

// minHeap is a binary heap with the least bucket in front.
type minHeap []bucket

func (h *minHeap) push(b bucket) {
	*h = append(*h, b)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if s[parent] <= s[i] {
			return
		}
		s[parent], s[i] = s[i], s[parent]
		i = parent
	}
}

func (h *minHeap) pop() bucket {
	s := *h
	least, last := s[0], len(s)-1
	s[0] = s[last]
	s = s[:last]
	*h = s
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return least
		}
		if child+1 < last && s[child+1] < s[child] {
			child++
		}
		if s[i] <= s[child] {
			return least
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
}

// upTo appends all elements that are at most limit, in no order.
func (h *minHeap) upTo(limit bucket, dst []bucket) []bucket {
	return h.collect(0, limit, dst)
}

func (h *minHeap) collect(i int, limit bucket, dst []bucket) []bucket {
	if i >= len(*h) || (*h)[i] > limit {
		return dst
	}
	dst = append(dst, (*h)[i])
	dst = h.collect(2*i+1, limit, dst)
	return h.collect(2*i+2, limit, dst)
}
