package commit_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
)

const deposedFor = 20 * time.Second

// newReplicated returns a committer over a stream on several servers that has stored events 1 to 3.
func newReplicated(t *testing.T, change func(*commit.Options)) *rig {
	t.Helper()
	r := newRig(t, change)
	r.stream.SetPatience(deposedFor)
	for i := range 3 {
		if _, err := r.Append(t.Context(), event(1+i)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// A leader that was deposed and knows only the writer's first batch, or none, is no damage: whoever appends meanwhile
// waits, and nothing is lost or stored twice.
func TestOldLeaderIsNoDamage(t *testing.T) {
	for name, knows := range map[string]journal.Seq{"the first batch": 1, "no batch": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReplicated(t, func(o *commit.Options) { o.MaxWait = time.Minute })
				for round := range 3 { // what was settled is not held against the next leader
					r.stream.Depose(knows)
					time.AfterFunc(deposedFor-2*time.Second, r.stream.Elect)
					pos, err := r.Append(t.Context(), event(4+round))
					if want := (journal.Position{Seq: journal.Seq(4 + round)}); err != nil || pos != want {
						t.Fatalf("append: %v, %v", pos, err)
					}
				}
				want := [][]int{{1}, {2}, {3}, {4}, {5}, {6}}
				if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
}

// A batch whose acknowledgement was lost, and that the deposed leader does not know, is stored once.
func TestOldLeaderDoesNotKnowTheBatchInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicated(t, func(o *commit.Options) { o.MaxWait = time.Minute })
		r.stream.Inject(lostAckThen(func() { r.stream.Depose(2) }))
		time.AfterFunc(15*time.Second, r.stream.Elect)
		pos, err := r.Append(t.Context(), event(4))
		if want := (journal.Position{Seq: 4}); err != nil || pos != want {
			t.Fatalf("append: %v, %v", pos, err)
		}
		want := [][]int{{1}, {2}, {3}, {4}}
		if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Nobody hangs meanwhile, and nobody hears of damage: those who wait are told that they may try again.
func TestCallersOfAnOldLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicated(t, nil)
		r.stream.Depose(1)
		var wg sync.WaitGroup
		try := func(ctx context.Context, n int, most time.Duration, want error) {
			began := time.Now()
			_, err := r.Append(ctx, event(n))
			if !errors.Is(err, want) || errors.Is(err, journal.ErrDamaged) {
				t.Errorf("event %d: %v, want %v", n, err, want)
			}
			if took := time.Since(began); took > most {
				t.Errorf("event %d waited %v", n, took)
			}
		}
		wg.Go(func() {
			try(t.Context(), 4, commit.DefaultMaxWait+commit.DefaultAttemptTimeout, journal.ErrOutcomeUnknown)
		})
		synctest.Wait()
		wg.Go(func() {
			try(t.Context(), 5, commit.DefaultMaxWait+commit.DefaultAttemptTimeout, journal.ErrUnavailable)
		})
		wg.Go(func() { try(within(t, time.Second), 6, time.Second, context.DeadlineExceeded) })
		wg.Wait()
		try(t.Context(), 7, 0, journal.ErrUnavailable)
		r.stream.Elect()
		time.Sleep(2 * time.Second)
		if _, err := r.Append(t.Context(), event(8)); err != nil {
			t.Errorf("when it is over: %v", err)
		}
		want := [][]int{{1}, {2}, {3}, {4}, {8}}
		if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Who waited too long for a deposed leader, and then in vain for an election, blocks nobody afterwards.
func TestElectionAfterAnOldLeaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicated(t, patient)
		r.stream.Depose(2)
		if _, err := r.Append(t.Context(), event(4)); !errors.Is(err, journal.ErrOutcomeUnknown) {
			t.Errorf("before the election: %v", err)
		}
		r.stream.Elect()
		r.stream.Inject(leaderless)
		time.Sleep(2 * patience)
		if _, err := r.Append(t.Context(), event(5)); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("in the election: %v", err)
		}
		r.stream.Inject(nil)
		time.Sleep(time.Second)
		if _, err := r.Append(t.Context(), event(6)); err != nil {
			t.Errorf("when it is over: %v", err)
		}
		want := [][]int{{1}, {2}, {3}, {6}}
		if got := numbers(r.end(t)); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// A stream that was really put back is damage all the same, once no deposed leader could still say so, and not before.
func TestRolledBackStreamIsDamage(t *testing.T) {
	for name, last := range map[string]journal.Seq{"to the first batch": 1, "to nothing": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := make(chan error, 1)
				r := newReplicated(t, func(o *commit.Options) {
					o.MaxWait, o.MaxRetry = time.Hour, time.Hour
					o.Observer = attempts(func(err error) {
						if errors.Is(err, journal.ErrDamaged) {
							told <- err
						}
					})
				})
				r.stream.Shrink(last)
				began := time.Now()
				_, err := r.Append(t.Context(), event(4))
				if took := time.Since(began); !errors.Is(err, journal.ErrDamaged) || took < deposedFor || took > 2*deposedFor {
					t.Errorf("append: %v after %v", err, took)
				}
				if len(told) != 1 {
					t.Error("its observer does not know")
				}
				if _, err := r.Append(t.Context(), event(5)); !errors.Is(err, journal.ErrDamaged) {
					t.Errorf("append afterwards: %v", err)
				}
				if err := r.Close(t.Context()); !errors.Is(err, journal.ErrDamaged) {
					t.Errorf("close: %v", err)
				}
			})
		})
	}
}
