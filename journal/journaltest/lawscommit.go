package journaltest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// sealed is the codec that a real journal has.
type sealed struct {
	keys   *seal.Keyring
	opener *seal.BatchOpener
}

func newSealed() sealed {
	k := seal.GenerateKeyring()
	return sealed{keys: k, opener: seal.NewBatchOpener(k)}
}

func (s sealed) committer(t *testing.T, j Journal) *commit.Committer {
	t.Helper()
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(s.keys, w)
	must(t, err)
	c, err := commit.New(commit.Options{Port: j, Encoder: sealer, Journal: j.ID(), Writer: w, MaxWait: patience})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		_ = c.Close(ctx)
	})
	return c
}

// access returns an event that the n-th caller numbers i.
func access(n, i int) journal.Event {
	return journal.Event{
		Kind: journal.KindAccessed, Ref: journal.Ref{1, byte(n)}, At: journal.Instant(1 + i),
		Call: journal.Call{Number: uint64(n)<<32 | uint64(i), Method: "tools/call", Outcome: journal.OutcomeOK},
	}
}

func committersShare(u underTest) {
	t, h := u.t, u.Harness
	s := newSealed()
	const committers, callers, each = 3, 8, 25
	var wg sync.WaitGroup
	var mu sync.Mutex
	told := make(map[uint64]journal.Position)
	for n := range committers {
		c := s.committer(t, h.Journal)
		var own sync.WaitGroup
		for k := range callers {
			caller := n*callers + k
			own.Go(func() {
				for i := 0; i < 2*each; i += 2 {
					c.Post(access(100+caller, i))
					pos, err := c.Append(within(t), access(caller, i), access(caller, i+1))
					if err != nil {
						t.Errorf("append: %v", err)
						return
					}
					mu.Lock()
					told[access(caller, i).Call.Number] = pos
					mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			own.Wait()
			if err := c.Close(within(t)); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	got, err := ReadHistory(within(t), h.Journal, s.opener, h.Journal.ID())
	must(t, err)
	if want := committers * callers * each * 3; len(got.Events) != want {
		t.Errorf("%d events, want %d", len(got.Events), want)
	}
	for number, pos := range told {
		next := journal.Position{Seq: pos.Seq, Index: pos.Index + 1}
		if got.Events[pos].Call.Number != number || got.Events[next].Call.Number != number+1 {
			t.Errorf("event %x is not at %v", number, pos)
		}
	}
}

func committerOutlivesTrim(u underTest) {
	t, h := u.t, u.Harness
	c := newSealed().committer(t, h.Journal)
	_, err := c.Append(within(t), access(0, 0))
	must(t, err)
	must(t, h.Journal.Trim(within(t), 2))
	for want := journal.Seq(2); want <= 3; want++ {
		if pos, err := c.Append(within(t), access(0, int(want))); err != nil || pos.Seq != want {
			t.Errorf("append: %v, %v", pos, err)
		}
	}
	must(t, c.Close(within(t)))
}

// deaf is a port that loses the first answers.
type deaf struct {
	Journal

	losses int
}

var errDeaf = errors.New("the answer was lost")

func (d *deaf) Publish(ctx context.Context, w journal.WriterID, expected journal.Seq, data []byte) (journal.Seq, error) {
	seq, err := d.Journal.Publish(ctx, w, expected, data)
	if d.losses > 0 {
		d.losses--
		return 0, errDeaf
	}
	return seq, err
}

func committerMeetsItself(u underTest) {
	t, h := u.t, u.Harness
	s := newSealed()
	c := s.committer(t, &deaf{Journal: h.Journal, losses: 3})
	for want := journal.Seq(1); want <= 3; want++ {
		if pos, err := c.Append(within(t), access(0, int(want))); err != nil || pos.Seq != want {
			t.Errorf("append: %v, %v", pos, err)
		}
	}
	must(t, c.Close(within(t)))
	got, err := ReadHistory(within(t), h.Journal, s.opener, h.Journal.ID())
	must(t, err)
	if len(got.Events) != 3 {
		t.Errorf("%d events", len(got.Events))
	}
}

func foreignEndsCommitter(u underTest) {
	t, h := u.t, u.Harness
	c := newSealed().committer(t, h.Journal)
	_, err := c.Append(within(t), access(0, 0))
	must(t, err)
	_, err = h.Journal.Publish(within(t), c.Writer(), 1, payload(0))
	must(t, err)
	for range 2 {
		if _, err := c.Append(within(t), access(0, 1)); !errors.Is(err, journal.ErrForeignBatch) {
			t.Errorf("append: %v", err)
		}
	}
}

// committerDoubtsAnOldLeader makes one answer that knows the committer's first batch at most.
func committerDoubtsAnOldLeader(u underTest) {
	t, h := u.t, u.Harness
	if h.Depose == nil {
		return
	}
	if h.Journal.Patience() == 0 {
		t.Error("a leader can be deposed, and its word counts at once")
	}
	s := newSealed()
	c := s.committer(t, h.Journal)
	last := journal.Seq(0)
	for _, knows := range []journal.Seq{1, 0} {
		for range 3 {
			pos, err := c.Append(within(t), access(0, int(last)))
			must(t, err)
			last = pos.Seq
		}
		h.Depose(knows)
		electing := time.AfterFunc(200*time.Millisecond, h.Elect)
		last++
		if pos, err := c.Append(within(t), access(0, int(last))); err != nil || pos.Seq != last {
			t.Errorf("append: %v, %v", pos, err)
		}
		electing.Stop()
	}
	must(t, c.Close(within(t)))
	got, err := ReadHistory(within(t), h.Journal, s.opener, h.Journal.ID())
	must(t, err)
	if len(got.Events) != int(last) {
		t.Errorf("%d events, want %d", len(got.Events), last)
	}
}

func survivesRestart(u underTest) {
	t, h := u.t, u.Harness
	if h.Restart == nil {
		return // nothing outlives the process
	}
	s := newSealed()
	name := seal.KeyName{Tenant: journal.TenantID{1}, Key: "key", Wrap: "ring"}
	must(t, h.Keys.Create(within(t), name, payload(0)))
	for round := range 3 {
		c := s.committer(t, h.Journal)
		for i := range 10 {
			_, err := c.Append(within(t), access(round, i))
			must(t, err)
		}
		c.Post(access(round, 10))
		must(t, c.Close(within(t)))
		id := h.Journal.ID()
		h = h.Restart(t)
		if h.Journal.ID() != id {
			t.Fatal("another journal")
		}
		got, err := ReadHistory(within(t), h.Journal, s.opener, id)
		must(t, err)
		if want := 11 * (round + 1); len(got.Events) != want {
			t.Errorf("%d events, want %d", len(got.Events), want)
		}
		wantKeys(t, h, []seal.KeyName{name}, 0)
	}
}
