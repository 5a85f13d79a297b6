package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Journal implements commit.Port and replay.Source. Safe for concurrent use.
type Journal struct {
	id    journal.ID
	keys  Keys
	marks Marks

	snapshots Snapshots

	mu       sync.Mutex
	messages []message // by sequence; holes are missing
	first    journal.Seq
	last     journal.Seq
	subjects map[journal.WriterID]journal.Seq // each one's last message, while it is there
	changed  chan struct{}                    // closed and replaced at every change
	faults   faults
}

type message struct {
	journal.Message

	writer journal.WriterID
}

// New returns an empty journal with a new ID.
func New() *Journal {
	return &Journal{
		id:       journal.NewID(),
		first:    1,
		subjects: make(map[journal.WriterID]journal.Seq),
		changed:  make(chan struct{}),
	}
}

// ID names the journal.
func (j *Journal) ID() journal.ID { return j.id }

// Keys returns the journal's key store.
func (j *Journal) Keys() *Keys { return &j.keys }

// Snapshots returns the journal's store of snapshots.
func (j *Journal) Snapshots() *Snapshots { return &j.snapshots }

// Publish stores data as the next message on w's subject if expected is the sequence of the last one there,
// or zero and there is none. See commit.Port.
func (j *Journal) Publish(ctx context.Context, w journal.WriterID, expected journal.Seq, data []byte) (journal.Seq, error) {
	data = append([]byte(nil), data...)
	f := j.faultFor(w)
	if err := sleep(ctx, f.Delay); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch seq, _ := j.lastOf(w); {
	case j.faults.down, f.Kind == Unavailable:
		return 0, fmt.Errorf("memory journal: %w", journal.ErrUnavailable)
	case f.Kind == NoLeader:
		return 0, fmt.Errorf("memory journal: %w: %w", journal.ErrUnavailable, journal.ErrNoLeader)
	case j.faults.deposed && seq != expected:
		return 0, journal.ErrConflict
	case f.Kind == LostMessage, j.faults.deposed:
		return 0, j.silence(ctx)
	case f.Kind == LateMessage:
		j.storeLater(f.Late, w, expected, data)
		return 0, fmt.Errorf("memory journal: %w", errNoAnswer)
	case f.Kind == Conflict:
		return 0, journal.ErrConflict
	}
	seq, err := j.store(w, expected, data)
	if f.Kind == LostAck {
		return 0, j.silence(ctx)
	}
	return seq, err
}

// store is Publish without faults. The lock is held.
func (j *Journal) store(w journal.WriterID, expected journal.Seq, data []byte) (journal.Seq, error) {
	if j.subjects[w] != expected {
		return 0, journal.ErrConflict
	}
	j.last++
	j.messages = append(j.messages, message{
		Message: journal.Message{Seq: j.last, Time: journal.InstantOf(time.Now()), Data: data},
		writer:  w,
	})
	j.subjects[w] = j.last
	j.notify()
	return j.last, nil
}

// Last returns the last message on w's subject, or journal.ErrNoMessage.
func (j *Journal) Last(ctx context.Context, w journal.WriterID) (journal.Message, error) {
	if err := j.reachable(ctx); err != nil {
		return journal.Message{}, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seq, ok := j.lastOf(w)
	if !ok {
		return journal.Message{}, journal.ErrNoMessage
	}
	return j.messages[j.after(seq-1)].Message, nil
}

// Bounds returns what the journal holds.
func (j *Journal) Bounds(ctx context.Context) (journal.Bounds, error) {
	if err := j.reachable(ctx); err != nil {
		return journal.Bounds{}, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return journal.Bounds{First: j.first, Last: j.end()}, nil
}

// Patience is what SetPatience has set.
func (j *Journal) Patience() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.faults.patience
}

func (j *Journal) reachable(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.faults.down {
		return fmt.Errorf("memory journal: %w", journal.ErrUnavailable)
	}
	return nil
}

// Read calls fn with every message after the given one and with new ones as they arrive. See replay.Source.
func (j *Journal) Read(ctx context.Context, after journal.Seq, fn func(journal.Message) error) error {
	for {
		m, changed, err := j.next(after)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case changed != nil:
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		for range 1 + j.duplicates() {
			switch err := fn(m); {
			case errors.Is(err, journal.ErrStop):
				return nil
			case err != nil:
				return err
			}
		}
		after = m.Seq
	}
}

// next returns the message after the given one, or a channel that is closed when there may be one.
func (j *Journal) next(after journal.Seq) (journal.Message, <-chan struct{}, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch i := j.after(after); {
	case j.faults.down:
		return journal.Message{}, j.changed, nil
	case after > j.last:
		return journal.Message{}, nil, fmt.Errorf("%w: it ends at %d, before %d", journal.ErrDamaged, j.last, after)
	case after+1 < j.first:
		return journal.Message{}, nil, &journal.GapError{After: after, Next: j.first}
	case i == len(j.messages) && after < j.last: // the last messages are missing
		return journal.Message{}, nil, &journal.GapError{After: after, Next: j.last + 1}
	case i == len(j.messages):
		return journal.Message{}, j.changed, nil
	case j.messages[i].Seq != after+1:
		return journal.Message{}, nil, &journal.GapError{After: after, Next: j.messages[i].Seq}
	default:
		return j.messages[i].Message, nil, nil
	}
}

// after returns the index of the first message after seq. The lock is held.
func (j *Journal) after(seq journal.Seq) int {
	return sort.Search(len(j.messages), func(i int) bool { return j.messages[i].Seq > seq })
}

// Trim removes all messages before the given one.
func (j *Journal) Trim(ctx context.Context, before journal.Seq) error {
	if err := j.reachable(ctx); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	before = min(before, j.last+1)
	if before <= j.first {
		return nil
	}
	maps.DeleteFunc(j.subjects, func(_ journal.WriterID, seq journal.Seq) bool { return seq < before })
	j.messages = slices.Clone(j.messages[j.after(before-1):])
	j.first = before
	j.notify()
	return nil
}

// notify wakes readers. The lock is held.
func (j *Journal) notify() {
	close(j.changed)
	j.changed = make(chan struct{})
}
