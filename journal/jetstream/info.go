package jetstream

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	js "github.com/nats-io/nats.go/jetstream"
)

// infoEvery is how soon a stream's leader is asked again while the question before is still open: what was asked when
// there was none is never answered, and whoever waited for that would wait long after the election.
const infoEvery = 500 * time.Millisecond

// infoAnswer is what came of one question.
type infoAnswer struct {
	info  *js.StreamInfo
	asked time.Time
	err   error
}

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
	var asking sync.WaitGroup
	defer asking.Wait()
	if _, ends := ctx.Deadline(); !ends {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askMost)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan infoAnswer)
	again := time.NewTicker(infoEvery)
	defer again.Stop()
	refused := error(nil)
	for {
		asking.Go(func() {
			a := infoAnswer{asked: time.Now()}
			a.info, a.err = s.Info(ctx, opts...)
			select {
			case answers <- a:
			case <-ctx.Done(): // another one was first
			}
		})
		for asked := false; !asked; {
			select {
			case a := <-answers:
				if a.err != nil || leads(a.info) {
					return a.info, a.asked, a.err
				}
				refused = errNoQuorum
			case <-again.C:
				asked = true
			case <-ctx.Done():
				return nil, time.Time{}, cmp.Or(refused, ctx.Err())
			}
		}
	}
}
