package jetstream

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// infoEvery is how soon a stream's leader is asked again while the question before is still open: what was asked when
// there was none is never answered, and whoever waited for that would wait long after the election.
const infoEvery = 500 * time.Millisecond

// askMost bounds a question whose context has no end.
const askMost = 5 * time.Second

// peerSilence is how long a leader may not have heard from a peer that still counts. No other leader can have been elected
// within it: that takes at least four seconds without one.
const peerSilence = 3 * time.Second

// deposedFor is for how long a leader that was cut off may answer questions as if it led: it looks every ten seconds
// whether it has heard from a majority in the last ten.
const deposedFor = 20 * time.Second

// Patience is for how long a leader's word may be an old one. It is zero for a stream on one server, which knows all
// that it has acknowledged. See commit.Port and replay.Source.
func (j *Journal) Patience() time.Duration {
	if j.batches.CachedInfo().Config.Replicas > 1 {
		return deposedFor
	}
	return 0
}

// errNoQuorum says that who answers for a stream may not know what is stored: it has no leader, or one that a majority
// may have left.
var errNoQuorum = errors.New("the stream has no leader with a majority behind it")

// leads reports whether an answer is that of a stream's leader, and of one that a majority has listened to a moment ago.
// The servers themselves do not see to it: of a stream without a leader any member answers with what it has, and a
// leader that was cut off goes on for ten seconds and more.
func leads(info *js.StreamInfo) bool {
	replicas := info.Config.Replicas
	if replicas <= 1 {
		return true
	}
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return false
	}
	listen := 1
	for _, p := range info.Cluster.Replicas {
		if !p.Offline && p.Active < peerSilence {
			listen++
		}
	}
	return listen > replicas/2
}

// askInfo asks for what a stream holds until ctx ends, and returns the first answer of a leader to any of its questions,
// and when that one was asked.
func askInfo(ctx context.Context, s js.Stream, opts ...js.StreamInfoOpt) (*js.StreamInfo, time.Time, error) {
	ask := func(ctx context.Context) (*js.StreamInfo, error) { return s.Info(ctx, opts...) }
	return askAgain(ctx, ask, func(info *js.StreamInfo, err error) error {
		switch {
		case err == nil && !leads(info):
			return errNoQuorum
		case noLeader(err) && s.CachedInfo().Config.Replicas > 1:
			return err
		}
		return nil
	})
}

// ElectionPatience is how long to wait until a replicated stream has a leader again. Raft takes four to nine seconds for an
// election, from when the leader was heard last, and the same again where nobody wins.
const ElectionPatience = 15 * time.Second

// noLeader reports whether a server answers that it knows no leader: whom it is asked for may be elected just now.
func noLeader(err error) bool {
	return hasCode(err, codeSystemUnavailable, codeNotLeader) || errors.Is(err, nats.ErrNoResponders)
}

// askLeader asks what only a stream's leader answers, until there is one.
func askLeader[T any](ctx context.Context, j *Journal, ask func(context.Context) (T, error)) (T, error) {
	if j.Replicated() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ElectionPatience)
		defer cancel()
	}
	value, _, err := askAgain(ctx, ask, func(_ T, err error) error {
		if j.Replicated() && noLeader(err) {
			return err
		}
		return nil
	})
	return value, err
}

// answer is what came of one question.
type answer[T any] struct {
	value T
	asked time.Time
	err   error
}

// askAgain asks one question again and again until ctx ends, because what was asked when there was no leader is never
// answered. It returns the first answer that is not refused, and when that one was asked.
func askAgain[T any](ctx context.Context, ask func(context.Context) (T, error), refuse func(T, error) error) (T, time.Time, error) {
	var asking sync.WaitGroup
	defer asking.Wait()
	if _, ends := ctx.Deadline(); !ends {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askMost)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer[T])
	again := time.NewTicker(infoEvery)
	defer again.Stop()
	refused := error(nil)
	for {
		asking.Go(func() {
			a := answer[T]{asked: time.Now()}
			a.value, a.err = ask(ctx)
			select {
			case answers <- a:
			case <-ctx.Done(): // another one was first
			}
		})
		for asked := false; !asked; {
			select {
			case a := <-answers:
				if refused = refuse(a.value, a.err); refused == nil {
					return a.value, a.asked, a.err
				}
			case <-again.C:
				asked = true
			case <-ctx.Done():
				var none T
				return none, time.Time{}, cmp.Or(refused, ctx.Err())
			}
		}
	}
}
