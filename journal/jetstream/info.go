package jetstream

import (
	"context"
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

// askInfo asks for what a stream holds until ctx ends, and returns the first answer to any of its questions, and when that
// one was asked.
func askInfo(ctx context.Context, s js.Stream) (*js.StreamInfo, time.Time, error) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan infoAnswer)
	again := time.NewTicker(infoEvery)
	defer again.Stop()
	for {
		asking.Go(func() {
			a := infoAnswer{asked: time.Now()}
			a.info, a.err = s.Info(ctx)
			select {
			case answers <- a:
			case <-ctx.Done(): // another one was first
			}
		})
		select {
		case a := <-answers:
			return a.info, a.asked, a.err
		case <-again.C:
		case <-ctx.Done():
			return nil, time.Time{}, ctx.Err()
		}
	}
}
