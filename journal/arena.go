package journal

// What an Arena keeps at most from one use to the next.
const (
	keptBytes  = 8 << 20
	keptEvents = 1 << 15 // and as many Created
)

// Arena is memory for batches that are looked at and forgotten: what is decoded into it is good until Reset,
// and must not be used afterwards, not even a string of it. A nil *Arena gives memory that stays good. The
// zero value is ready. Not safe for concurrent use.
type Arena struct {
	bytes   []byte
	events  []Event
	created []Created
}

// Bytes returns an empty slice of that capacity, of whatever content.
func (a *Arena) Bytes(capacity int) []byte {
	if a == nil {
		return make([]byte, 0, capacity)
	}
	return takeFrom(&a.bytes, capacity)[:0]
}

// Reset makes all memory available again.
func (a *Arena) Reset() {
	a.bytes = emptied(a.bytes, keptBytes)
	a.events = emptied(a.events, keptEvents)
	a.created = emptied(a.created, keptEvents)
}

func (a *Arena) newEvents(n int) []Event {
	if a == nil {
		return make([]Event, n)
	}
	s := takeFrom(&a.events, n)
	clear(s)
	return s
}

func (a *Arena) newCreated(n int) []Created {
	if a == nil {
		return make([]Created, n)
	}
	s := takeFrom(&a.created, n)
	clear(s)
	return s
}

// takeFrom returns n elements of *from that nobody has. If they do not fit there, a larger slice takes its
// place; who has parts of the old one keeps them.
func takeFrom[T any](from *[]T, n int) []T {
	used := len(*from)
	if n > cap(*from)-used {
		*from, used = make([]T, 0, max(n, 2*cap(*from))), 0
	}
	*from = (*from)[:used+n]
	return (*from)[used : used+n : used+n]
}

func emptied[T any](s []T, kept int) []T {
	if cap(s) > kept {
		return nil
	}
	return s[:0]
}
