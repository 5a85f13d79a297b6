package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// long is a whole history of n messages.
func long(t *testing.T, n int) (*scene, *replaytest.Stream) {
	t.Helper()
	s, stream := newScene(t), new(replaytest.Stream)
	for i := range n {
		e := touched()
		if i%3 == 0 {
			e = created()
			e.Ref = replaytest.Ref(i)
		}
		s.store(stream, e)
	}
	return s, stream
}

// store folds the events and puts them into the stream.
func (s *scene) store(stream *replaytest.Stream, events ...journal.Event) journal.Seq {
	s.t.Helper()
	m := s.message(events...)
	apply(s.t, s.state, m)
	return stream.Put(m.Time, m.Data)
}

func follow(t *testing.T, o replay.FollowOptions) *replay.Follower {
	t.Helper()
	if o.Opener == nil {
		o.Opener = replaytest.Opener{}
	}
	f, err := replay.Follow(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func digestOf(f *replay.Follower) (d journal.Digest) {
	f.View(func(s *replay.State) { d = s.Digest() })
	return d
}

func TestFollowRestoresAndGoesOn(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 1000} {
		for _, workers := range []int{1, 3} {
			s, stream := long(t, n)
			f := follow(t, replay.FollowOptions{Source: stream, Workers: workers})
			if got := f.Basis(); got.Seq != journal.Seq(n) || got.Root != s.state.Root() {
				t.Fatalf("%d messages: restored to %d", n, got.Seq)
			}
			for range 3 {
				if err := f.WaitFor(t.Context(), s.store(stream, touched())); err != nil {
					t.Fatal(err)
				}
				if digestOf(f) != s.state.Digest() {
					t.Fatalf("%d messages: the follower's state differs", n)
				}
			}
		}
	}
}

func TestLawFollowingIsFolding(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		messages := replaytest.History(rt)
		s, stream := replay.NewState(), new(replaytest.Stream)
		apply(rt, s, messages...)
		cut := rapid.IntRange(0, len(messages)).Draw(rt, "restored")
		stream.Load(messages[:cut]...)
		f, err := replay.Follow(t.Context(), replay.FollowOptions{Source: stream, Opener: replaytest.Opener{}})
		if err != nil {
			rt.Fatalf("follow: %v", err)
		}
		defer f.Close()
		stream.Load(messages[cut:]...)
		if err := f.WaitFor(t.Context(), s.Seq()); err != nil {
			rt.Fatalf("wait: %v", err)
		}
		if digestOf(f) != s.Digest() {
			rt.Fatalf("the follower's state differs")
		}
		again, err := replay.Fold(t.Context(), replay.FoldOptions{Source: stream, Opener: replaytest.Opener{}})
		if err != nil || again.Digest() != s.Digest() {
			rt.Fatalf("Fold differs (%v)", err)
		}
	})
}

func TestFollowGoesOnFromAState(t *testing.T) {
	s, stream := long(t, 100)
	half, err := replay.Fold(t.Context(), replay.FoldOptions{
		Source: stream, Opener: replaytest.Opener{}, Until: func(m journal.Message) bool { return m.Seq > 50 },
	})
	if err != nil || half.Seq() != 50 {
		t.Fatalf("folded to %d: %v", half.Seq(), err)
	}
	stream.Trim(51)
	if f := follow(t, replay.FollowOptions{Source: stream, State: half}); digestOf(f) != s.state.Digest() {
		t.Fatalf("the state differs")
	}
}

func TestFollowRefuses(t *testing.T) {
	_, foreign := long(t, 3)
	for name, c := range map[string]struct {
		is    error
		want  string
		spoil func(stream *replaytest.Stream, o *replay.FollowOptions)
	}{
		"no source": {want: "no source", spoil: func(_ *replaytest.Stream, o *replay.FollowOptions) { o.Source = nil }},
		"no opener": {want: "no opener", spoil: func(_ *replaytest.Stream, o *replay.FollowOptions) { o.Opener = nil }},
		"hole": {is: journal.ErrDamaged, want: "messages 70 to 71 are missing", spoil: func(s *replaytest.Stream, _ *replay.FollowOptions) {
			s.Lose(70)
			s.Lose(71)
		}},
		"trimmed": {is: replay.ErrNeedsSnapshot, want: "messages 1 to 4 are needed", spoil: func(s *replaytest.Stream, _ *replay.FollowOptions) {
			s.Trim(5)
		}},
		"shorter than folded before": {is: journal.ErrDamaged, want: "ends at message 3, but up to 100", spoil: func(s *replaytest.Stream, o *replay.FollowOptions) {
			o.State, _ = replay.Fold(t.Context(), replay.FoldOptions{Source: s, Opener: replaytest.Opener{}})
			o.Source = foreign
		}},
		"another journal": {is: journal.ErrDamaged, want: "message 1 (batch 1 of writer 0100", spoil: func(_ *replaytest.Stream, o *replay.FollowOptions) {
			o.Journal = journal.ID{42}
		}},
		"wrong key": {is: journal.ErrWrongKey, want: "open message 66: does not open", spoil: func(_ *replaytest.Stream, o *replay.FollowOptions) {
			o.Opener = lockedFrom(66)
		}},
		"stream out of reach": {is: journal.ErrUnavailable, want: "restore", spoil: func(s *replaytest.Stream, _ *replay.FollowOptions) {
			s.OnBounds = func(context.Context) error { return journal.ErrUnavailable }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, stream := long(t, 100)
			o := replay.FollowOptions{Source: stream, Opener: replaytest.Opener{}}
			c.spoil(stream, &o)
			f, err := replay.Follow(t.Context(), o)
			if f != nil || err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

// lockedFrom opens batches below a number.
type lockedFrom uint64

func (l lockedFrom) Open(data []byte) (*journal.Batch, error) {
	b, err := replaytest.Opener{}.Open(data)
	if err == nil && b.Number >= uint64(l) {
		return nil, journal.ErrWrongKey
	}
	return b, err
}

func TestFollowerStopsAtDamage(t *testing.T) {
	s, stream := long(t, 3)
	f := follow(t, replay.FollowOptions{Source: stream})
	s.writer.Previous = journal.Digest{1}
	bad := stream.Put(s.now, s.writer.Batch(journal.Basis{}, touched()))
	err := f.WaitFor(t.Context(), bad)
	var at *replay.DamageError
	if !errors.As(err, &at) || at.Seq != bad {
		t.Fatalf("WaitFor: %v", err)
	}
	<-f.Done()
	for name, got := range map[string]error{
		"Err": f.Err(), "CatchUp": f.CatchUp(t.Context()), "Close": f.Close(),
	} {
		if !errors.Is(got, err) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if err := f.WaitFor(t.Context(), 3); err != nil {
		t.Errorf("what was folded stays folded: %v", err)
	}
	if digestOf(f) != s.state.Digest() {
		t.Errorf("the state changed")
	}
}

func TestFollowerClosed(t *testing.T) {
	_, stream := long(t, 3)
	f := follow(t, replay.FollowOptions{Source: stream})
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WaitFor(t.Context(), 4); !errors.Is(err, replay.ErrClosed) {
		t.Errorf("WaitFor: %v", err)
	}
	if err := f.CatchUp(t.Context()); !errors.Is(err, replay.ErrClosed) {
		t.Errorf("CatchUp: %v", err)
	}
	f.View(func(s *replay.State) {
		if s.Seq() != 3 {
			t.Errorf("state at %d", s.Seq())
		}
	})
}

// stuck is a source that names messages which never come.
type stuck struct{ replaytest.Stream }

func (s *stuck) Bounds(context.Context) (journal.Bounds, error) {
	return journal.Bounds{First: 1, Last: 10}, nil
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the operator gave up")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		f, err := replay.Follow(ctx, replay.FollowOptions{Source: new(stuck), Opener: replaytest.Opener{}})
		if f != nil || !errors.Is(err, why) {
			t.Fatalf("%v", err)
		}
	})
}

func TestFollowOutlivesItsContext(t *testing.T) {
	s, stream := long(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	f, err := replay.Follow(ctx, replay.FollowOptions{Source: stream, Opener: replaytest.Opener{}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cancel()
	if err := f.WaitFor(t.Context(), s.store(stream, touched())); err != nil {
		t.Fatal(err)
	}
}

func TestWaitForGivesUp(t *testing.T) {
	_, stream := long(t, 3)
	f := follow(t, replay.FollowOptions{Source: stream})
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := f.WaitFor(ctx, 4); !errors.Is(err, why) {
		t.Fatal(err)
	}
	if err := f.WaitFor(ctx, 3); err != nil {
		t.Fatalf("folded already: %v", err)
	}
}

func TestManyWaiters(t *testing.T) {
	s, stream := long(t, 3)
	f := follow(t, replay.FollowOptions{Source: stream})
	const each, seqs = 50, 20
	errs := make(chan error, each*seqs)
	for i := range each * seqs {
		seq := journal.Seq(4 + i%seqs)
		go func() {
			err := f.WaitFor(t.Context(), seq)
			f.View(func(s *replay.State) {
				if err == nil && s.Seq() < seq {
					err = fmt.Errorf("woke at %d, waited for %d", s.Seq(), seq)
				}
			})
			errs <- err
		}()
	}
	for range seqs {
		s.store(stream, touched())
	}
	for range each * seqs {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func TestProgress(t *testing.T) {
	_, stream := long(t, 1000)
	var seen []replay.Progress
	f := follow(t, replay.FollowOptions{Source: stream, Progress: func(p replay.Progress) { seen = append(seen, p) }})
	last := seen[len(seen)-1]
	if !last.Ready || last.Seq != 1000 || last.Target != 1000 || last.Events != 1000 || last.Sessions != 334 {
		t.Fatalf("%+v", last)
	}
	for _, p := range seen[:len(seen)-1] {
		if p.Ready || p.Target != 1000 {
			t.Fatalf("%+v", p)
		}
	}
	if got := f.Progress(); !got.Ready || got.Seq != 1000 {
		t.Fatalf("%+v", got)
	}
}
