package replay_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// laggard is a stream on several servers whose leader does not know the last messages for a while.
type laggard struct {
	*replaytest.Stream

	behind atomic.Int64 // how many
}

func replicated(stream *replaytest.Stream, patience time.Duration) *laggard {
	stream.Replicated = patience
	return &laggard{Stream: stream}
}

func (l *laggard) Bounds(ctx context.Context) (journal.Bounds, error) {
	b, err := l.Stream.Bounds(ctx)
	b.Last -= journal.Seq(l.behind.Load())
	return b, err
}

// lags lets the leader not know three messages for so long.
func (l *laggard) lags(d time.Duration) {
	l.behind.Store(3)
	time.AfterFunc(d, func() { l.behind.Store(0) })
}

const deposedFor = 20 * time.Second

// whatever compares the end of a stream with what is known.
var comparers = map[string]func(ctx context.Context, l *laggard, s *replay.State) (journal.Seq, error){
	"a follower with a snapshot's state": func(ctx context.Context, l *laggard, s *replay.State) (journal.Seq, error) {
		return followed(ctx, replay.FollowOptions{Source: l, State: s})
	},
	"a follower with a mark": func(ctx context.Context, l *laggard, s *replay.State) (journal.Seq, error) {
		m := journal.Mark{Journal: s.Journal(), Replica: "one", Basis: journal.Basis{Seq: s.Seq(), Root: s.Root()}}
		return followed(ctx, replay.FollowOptions{Source: l, Marks: []journal.Mark{m}})
	},
	"a fold": func(ctx context.Context, l *laggard, s *replay.State) (journal.Seq, error) {
		s, err := replay.Fold(ctx, replay.FoldOptions{Source: l, Opener: replaytest.Opener{}, State: s})
		if err != nil {
			return 0, err
		}
		return s.Seq(), nil
	},
}

func followed(ctx context.Context, o replay.FollowOptions) (journal.Seq, error) {
	o.Opener = replaytest.Opener{}
	f, err := replay.Follow(ctx, o)
	if err != nil {
		return 0, err
	}
	return f.Basis().Seq, f.Close()
}

// An old leader's word is no damage; after the patience it is.
func TestOldLeaderIsNoDamage(t *testing.T) {
	for name, compare := range comparers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, stream := long(t, 10)
				l := replicated(stream, deposedFor)
				l.lags(deposedFor - time.Second)
				if seq, err := compare(t.Context(), l, folded(t, stream)); err != nil || seq != s.state.Seq() {
					t.Fatalf("%d, %v", seq, err)
				}
				held := folded(t, stream)
				l.lags(time.Hour)
				began := time.Now()
				_, err := compare(t.Context(), l, held)
				shrunk, ok := errors.AsType[*replay.ShrunkError](err)
				if took := time.Since(began); !ok || shrunk.Last != 7 || shrunk.Folded != 10 || took < deposedFor || took > 2*deposedFor {
					t.Errorf("%v after %v", err, took)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := compare(ctx, l, folded(t, stream)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("within a second: %v", err)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

func folded(t *testing.T, stream *replaytest.Stream) *replay.State {
	t.Helper()
	s, err := replay.Fold(t.Context(), replay.FoldOptions{Source: stream, Opener: replaytest.Opener{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What an old leader said long ago does not make the next one's first word count: nobody has asked between.
func TestCatchUpForgetsAnOldLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stream := long(t, 10)
		l := replicated(stream, deposedFor)
		f := follow(t, replay.FollowOptions{Source: l, QueryTimeout: 5 * time.Second})
		for range 3 {
			l.lags(10 * time.Second)
			if err := f.CatchUp(t.Context()); !errors.Is(err, journal.ErrUnavailable) || errors.Is(err, journal.ErrDamaged) {
				t.Fatalf("%v", err)
			}
			time.Sleep(time.Minute)
		}
		if err := f.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
