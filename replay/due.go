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

// overdue is the bucket of pages with sessions that had timed out by journal time and wait for their expired event.
const overdue bucket = math.MinInt64

func bucketOf(i journal.Instant) bucket { return bucket(i / bucketWidth) }

// due orders the pages by when the first of their sessions may expire, lazily: an access leaves a page where it is,
// and only when journal time passes its bucket is it moved to where it belongs by then. So asking for what is due
// costs what is due, times a page at most, and a session takes no room here.
type due struct {
	buckets map[bucket][]uint32 // page numbers
	queue   minHeap             // the buckets' numbers, overdue aside
	pages   []duePage           // of each page
}

// duePage says where a page is queued.
type duePage struct {
	bucket bucket
	slot   uint32 // plus one; zero: nowhere
}

func newDue() due { return due{buckets: make(map[bucket][]uint32)} }

// scheduleAt tells that the record at p expires then, for the first time.
func (t *table) scheduleAt(p place, expires journal.Instant) {
	t.schedulePage(uint32(p/pageSize), bucketOf(expires))
}

func (t *table) schedulePage(i uint32, b bucket) {
	if at := &t.due.pages[i]; at.slot == 0 || b < at.bucket {
		t.due.remove(i)
		t.due.put(i, b)
	}
}

func (d *due) put(i uint32, b bucket) {
	list, ok := d.buckets[b]
	if !ok && b != overdue {
		d.queue.push(b)
	}
	d.pages[i] = duePage{bucket: b, slot: uint32(len(list)) + 1}
	d.buckets[b] = append(list, i)
}

// remove takes a page out of its bucket. An emptied bucket stays until its time has passed.
func (d *due) remove(i uint32) {
	at := d.pages[i]
	if at.slot == 0 {
		return
	}
	list := d.buckets[at.bucket]
	last := len(list) - 1
	moved := list[last]
	list[at.slot-1] = moved
	d.pages[moved].slot = at.slot
	d.buckets[at.bucket] = list[:last]
	d.pages[i] = duePage{}
	if last == 0 && at.bucket == overdue {
		delete(d.buckets, overdue)
	}
}

// first returns the first bucket in which a session of the page expires.
func (t *table) first(i uint32) (b bucket, ok bool) {
	for j := range t.pages[i] {
		if r := &t.pages[i][j]; r.profile != 0 {
			if at := bucketOf(t.expires(r)); !ok || at < b {
				b, ok = at, true
			}
		}
	}
	return b, ok
}

// again queues a page anew.
func (t *table) again(i uint32) {
	t.due.remove(i)
	if b, ok := t.first(i); ok {
		t.due.put(i, b)
	}
}

// removed tells that the record at p is gone.
func (t *table) removed(p place) {
	if i := uint32(p / pageSize); t.due.pages[i].bucket == overdue {
		t.again(i)
	}
}

// accessed tells that the last access of the record at p has moved forward.
func (t *table) accessed(p place) { t.removed(p) }

// advance empties the buckets that journal time has passed.
func (t *table) advance(now journal.Instant) {
	for len(t.due.queue) > 0 && t.due.queue[0] < bucketOf(now) {
		b := t.due.queue.pop()
		list := t.due.buckets[b]
		delete(t.due.buckets, b)
		for _, i := range list {
			t.due.pages[i] = duePage{}
			to, ok := t.first(i)
			if !ok {
				continue
			}
			if to <= b {
				to = overdue
			}
			t.due.put(i, to)
		}
	}
}

// expired yields the records that have expired by now, roughly by age. It changes nothing.
func (t *table) expired(now journal.Instant) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		passed := t.due.queue.upTo(bucketOf(now), nil)
		slices.Sort(passed)
		for _, b := range append([]bucket{overdue}, passed...) {
			for _, i := range t.due.buckets[b] {
				if !t.expiredOf(i, now, yield) {
					return
				}
			}
		}
	}
}

func (t *table) expiredOf(i uint32, now journal.Instant, yield func(*record) bool) bool {
	for j := range t.pages[i] {
		if r := &t.pages[i][j]; r.profile != 0 && t.expires(r) <= now && !yield(r) {
			return false
		}
	}
	return true
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
