package commit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/memory"
)

// TestModel runs random scripts of several callers against a stream with random faults.
//
// The law: an acknowledged Append is in the stream once, whole, at the position it got; one that failed
// with an unknown outcome is there at most once; any other failed one is not there; each caller's events
// are in its order, posted ones included; posted events are there once unless they are counted as dropped;
// the writer's chain has no fault.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScript(rt)
		var err error
		synctest.Test(t, func(*testing.T) { err = s.run() })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// script is what happens: to each publish a fault, to each caller a list of steps, and to the stream.
type script struct {
	faults  []memory.Fault
	callers [][]step
	stream  []step
	buffer  int
}

type step struct {
	wait    time.Duration // before
	kind    stepKind
	events  int
	timeout time.Duration // of an append
}

type stepKind int

const (
	stepAppend stepKind = iota
	stepPost
	stepDown
	stepUp
	stepTrim
	stepDepose
)

func drawScript(t *rapid.T) script {
	wait := rapid.Custom(func(t *rapid.T) time.Duration {
		unit := rapid.SampledFrom([]time.Duration{0, time.Microsecond, time.Millisecond, time.Second}).Draw(t, "unit")
		return unit * time.Duration(rapid.IntRange(0, 20).Draw(t, "units"))
	})
	fault := rapid.Custom(func(t *rapid.T) memory.Fault {
		kinds := []memory.FaultKind{0, 0, 0, memory.LostAck, memory.LostMessage, memory.LateMessage, memory.Unavailable, memory.Conflict}
		return memory.Fault{
			Kind:  rapid.SampledFrom(kinds).Draw(t, "fault"),
			Delay: wait.Draw(t, "delay"),
			Late:  wait.Draw(t, "late"),
		}
	})
	long := rapid.OneOf(wait, rapid.Just(retention), rapid.Just(2*time.Minute))
	of := func(wait *rapid.Generator[time.Duration], kinds ...stepKind) *rapid.Generator[[]step] {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				wait:    wait.Draw(t, "wait"),
				kind:    rapid.SampledFrom(kinds).Draw(t, "step"),
				events:  rapid.SampledFrom([]int{1, 1, 2, 40, 600}).Draw(t, "events"),
				timeout: rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Hour}).Draw(t, "timeout"),
			}
		}), 0, 12)
	}
	return script{
		faults:  rapid.SliceOfN(fault, 0, 20).Draw(t, "faults"),
		callers: rapid.SliceOfN(of(long, stepAppend, stepAppend, stepPost), 1, 6).Draw(t, "callers"),
		stream:  of(long, stepDown, stepUp, stepTrim, stepDepose).Draw(t, "stream"),
		buffer:  rapid.SampledFrom([]int{20, 100, 10_000}).Draw(t, "buffer"),
	}
}

// sent is one step's events: numbered caller<<32 | first, and so on.
type sent struct {
	posted bool
	first  uint64
	n      int
	pos    journal.Position
	err    error
}

type runner struct {
	stream *memory.Journal
	c      *commit.Committer

	mu   sync.Mutex
	seen []journal.Message
}

func (s script) run() error {
	ctx := context.Background()
	r := &runner{stream: memory.New()}
	r.stream.SetPatience(deposedFor)
	var err error
	r.c, err = commit.New(commit.Options{
		Port: r.stream, Encoder: journaltest.Codec{}, Journal: r.stream.ID(), Writer: journal.NewWriterID(),
		MaxBuffered: s.buffer, MaxRetry: time.Minute,
	})
	if err != nil {
		return err
	}
	r.stream.Inject(faults(s.faults...))
	reading, stop := context.WithCancel(ctx)
	var reader, callers sync.WaitGroup
	var readErr error
	reader.Go(func() { readErr = r.stream.Read(reading, 0, r.see) })
	done := make([][]sent, len(s.callers))
	for i, steps := range s.callers {
		callers.Go(func() { done[i] = r.call(ctx, uint64(i+1)<<32, steps) })
	}
	callers.Go(func() { r.disturb(ctx, s.stream) })
	callers.Wait()
	r.stream.SetDown(false)
	r.stream.Inject(nil)
	closeErr := r.c.Close(ctx)
	time.Sleep(time.Hour) // whatever is late has arrived
	synctest.Wait()
	stop()
	reader.Wait()
	if !errors.Is(readErr, context.Canceled) {
		return fmt.Errorf("read: %w", readErr)
	}
	return r.check(done, closeErr)
}

func (r *runner) see(m journal.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, m)
	return nil
}

func (r *runner) call(ctx context.Context, first uint64, steps []step) (done []sent) {
	for _, st := range steps {
		time.Sleep(st.wait)
		d := sent{posted: st.kind == stepPost, first: first, n: st.events}
		events := make([]journal.Event, st.events)
		for i := range events {
			events[i] = event(int(first) + i)
			events[i].Call.Number = first + uint64(i)
		}
		first += uint64(st.events)
		if d.posted {
			for _, e := range events {
				r.c.Post(e)
			}
		} else {
			ctx, cancel := context.WithTimeout(ctx, st.timeout)
			d.pos, d.err = r.c.Append(ctx, events...)
			cancel()
		}
		done = append(done, d)
	}
	return done
}

// retention is how long the stream is not trimmed. It is longer than any batch is in doubt: one that is
// trimmed away meanwhile could be stored twice, or its committer could not go on.
const retention = time.Hour

func (r *runner) disturb(ctx context.Context, steps []step) {
	var up time.Time
	for _, st := range steps {
		time.Sleep(st.wait)
		switch {
		case st.kind == stepDepose:
			r.depose(ctx, st)
		case st.kind != stepTrim:
			r.stream.SetDown(st.kind == stepDown)
			up = time.Now()
		case time.Since(up) > 3*time.Minute:
			r.trim(ctx)
		}
	}
}

// depose lets an old leader answer, which does not know so many messages, for less than the patience. What it said is
// forgotten before the next one answers.
func (r *runner) depose(ctx context.Context, st step) {
	b, err := r.stream.Bounds(ctx)
	if err != nil {
		return // nobody answers
	}
	r.stream.Depose(b.Last - min(b.Last, journal.Seq(st.events)))
	time.Sleep(min(st.wait, deposedFor-time.Second))
	r.stream.Elect()
	time.Sleep(2 * deposedFor)
}

func (r *runner) trim(ctx context.Context) {
	synctest.Wait() // the reader has seen it all
	r.mu.Lock()
	defer r.mu.Unlock()
	old := journal.InstantOf(time.Now().Add(-retention))
	var before journal.Seq
	for _, m := range r.seen {
		if m.Time <= old {
			before = m.Seq + 1
		}
	}
	_ = r.stream.Trim(ctx, before)
}

// check holds what the callers were told against what is in the stream.
func (r *runner) check(done [][]sent, closeErr error) error {
	h, err := journaltest.CheckHistory(r.seen, journaltest.Codec{}, r.stream.ID())
	if err != nil {
		return err
	}
	at := make(map[uint64]journal.Position)
	for pos, e := range h.Events {
		if other, twice := at[e.Call.Number]; twice {
			return fmt.Errorf("event %x is at %v and %v", e.Call.Number, other, pos)
		}
		at[e.Call.Number] = pos
	}
	posted, missing := 0, 0
	for _, list := range done {
		var last journal.Position
		for _, d := range list {
			n, err := d.check(at, &last)
			if err != nil {
				return fmt.Errorf("%x (%d events, posted %t): %w", d.first, d.n, d.posted, err)
			}
			if d.posted {
				posted += d.n
				missing += d.n - n
			}
		}
	}
	st := r.c.Stats()
	if dropped := int(st.Superseded+st.Lost) + st.Unsaved; dropped != missing {
		return fmt.Errorf("%d of %d posted events are missing, %d counted as dropped", missing, posted, dropped)
	}
	return closeErr
}

// check returns how many of d's events are in the stream, in order after last.
func (d sent) check(at map[uint64]journal.Position, last *journal.Position) (n int, err error) {
	for i := range d.n {
		pos, ok := at[d.first+uint64(i)]
		if !ok {
			continue
		}
		n++
		if pos.Compare(*last) <= 0 {
			return n, fmt.Errorf("event %d is at %v, not after %v", i, pos, *last)
		}
		*last = pos
	}
	if d.posted {
		return n, nil
	}
	first := at[d.first]
	switch {
	case n != 0 && n != d.n:
		return n, fmt.Errorf("torn: %d of %d stored", n, d.n)
	case n > 0 && (at[d.first+uint64(d.n)-1].Seq != first.Seq):
		return n, errors.New("not in one batch")
	case d.err == nil && (n == 0 || d.pos != first):
		return n, fmt.Errorf("acknowledged at %v, stored at %v", d.pos, first)
	case d.err != nil && n > 0 && !errors.Is(d.err, journal.ErrOutcomeUnknown):
		return n, fmt.Errorf("stored, although its caller was told: %w", d.err)
	default:
		return n, nil
	}
}
