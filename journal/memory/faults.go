package memory

import (
	"context"
	"errors"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// FaultKind says what goes wrong with a publish. Zero is nothing.
type FaultKind uint8

// The faults.
const (
	LostAck     FaultKind = iota + 1 // stored, but no answer comes before the context ends
	LostMessage                      // not stored, and no answer comes before the context ends
	LateMessage                      // an error at once; the message arrives Fault.Late afterwards
	Unavailable                      // journal.ErrUnavailable; not stored
	Conflict                         // journal.ErrConflict, although the expectation holds; not stored
	NoLeader                         // journal.ErrUnavailable and journal.ErrNoLeader; not stored
)

// Fault is what happens to one publish.
type Fault struct {
	Kind  FaultKind
	Delay time.Duration // before anything else
	Late  time.Duration // LateMessage
}

type faults struct {
	publish    func(journal.WriterID) Fault
	down       bool
	duplicates int
	patience   time.Duration
	deposed    bool
	knows      journal.Seq // what the deposed leader knows the messages up to
}

var errNoAnswer = errors.New("no answer")

// Inject has f decide the fault of every publish from now on; nil means none. f is called with the
// journal's lock held.
func (j *Journal) Inject(f func(w journal.WriterID) Fault) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults.publish = f
}

// SetDown makes everything but Read fail with journal.ErrUnavailable, and Read wait, until it is unset.
func (j *Journal) SetDown(down bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults.down = down
	j.notify()
}

// Duplicate gives the next n messages to their reader twice, which breaks the law of replay.Source: it is
// to show that the fold does not mind.
func (j *Journal) Duplicate(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults.duplicates = n
}

// Remove makes a hole where a message was, as a damaged block file does.
func (j *Journal) Remove(_ context.Context, seq journal.Seq) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := j.after(seq - 1)
	if i == len(j.messages) || j.messages[i].Seq != seq {
		return journal.ErrNoMessage
	}
	j.forget(j.messages[i])
	j.messages = append(j.messages[:i:i], j.messages[i+1:]...)
	return nil
}

// Replace puts other bytes where a message was, as a tamperer does.
func (j *Journal) Replace(seq journal.Seq, data []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := j.after(seq - 1)
	if i == len(j.messages) || j.messages[i].Seq != seq {
		return journal.ErrNoMessage
	}
	j.messages[i].Data = data
	return nil
}

// forget removes m from its subject; an older message there may become its last. The lock is held.
func (j *Journal) forget(m message) {
	if j.subjects[m.writer] != m.Seq {
		return
	}
	delete(j.subjects, m.writer)
	for _, o := range j.messages[:j.after(m.Seq-1)] {
		if o.writer == m.writer {
			j.subjects[m.writer] = o.Seq
		}
	}
}

func (j *Journal) faultFor(w journal.WriterID) Fault {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.faults.publish == nil {
		return Fault{}
	}
	return j.faults.publish(w)
}

func (j *Journal) duplicates() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.faults.duplicates == 0 {
		return 0
	}
	j.faults.duplicates--
	return 1
}

// silence waits for the end of ctx, without the lock, which is held before and after.
func (j *Journal) silence(ctx context.Context) error {
	j.mu.Unlock()
	defer j.mu.Lock()
	<-ctx.Done()
	return context.Cause(ctx)
}

func (j *Journal) storeLater(d time.Duration, w journal.WriterID, expected journal.Seq, data []byte) {
	time.AfterFunc(d, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		_, _ = j.store(w, expected, data) // nobody is told
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
