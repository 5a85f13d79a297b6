package control

// tail keeps the newest items of a stream.
type tail[T any] struct {
	ring  []T
	added int
	size  int
}

func newTail[T any](size int) *tail[T] { return &tail[T]{size: size} }

func (t *tail[T]) add(item T) {
	if len(t.ring) < t.size {
		t.ring = append(t.ring, item)
	} else {
		t.ring[t.added%t.size] = item
	}
	t.added++
}

func (t *tail[T]) dropped() int { return t.added - len(t.ring) }

// items returns what is kept, oldest first.
func (t *tail[T]) items() []T {
	if t.added <= t.size {
		return append([]T{}, t.ring...)
	}
	at := t.added % t.size
	return append(append([]T{}, t.ring[at:]...), t.ring[:at]...)
}
