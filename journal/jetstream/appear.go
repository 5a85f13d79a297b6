package jetstream

import (
	"context"
	"errors"
	"time"

	js "github.com/nats-io/nats.go/jetstream"
)

// appearTry is how long one question may take: while a new stream of a cluster has no leader, nobody answers.
const appearTry = 500 * time.Millisecond

// changeTries is how often a server is asked to make or change a stream. It has five seconds each time, which a disk that is
// busy with others' work may need for a few syncs alone.
const changeTries = 6

// create makes a stream. To ask again changes nothing: one that is there already, and is the same, is what is returned.
func (j *Journal) create(ctx context.Context, want js.StreamConfig) (js.Stream, error) {
	return j.change(ctx, want, j.js.CreateStream)
}

// change has a stream made or changed, and asks again where no answer came.
func (j *Journal) change(ctx context.Context, want js.StreamConfig, how func(context.Context, js.StreamConfig) (js.Stream, error)) (s js.Stream, err error) {
	for range changeTries {
		s, err = how(ctx, want)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || !j.nc.IsConnected() {
			break
		}
	}
	return s, err
}

// appear returns a stream that somebody else is making. Of two replicas that make it at once on a cluster, the one
// that comes second hears that its name is taken before the stream can be found.
func (j *Journal) appear(ctx context.Context, name string) (js.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		try, cancelTry := context.WithTimeout(ctx, appearTry)
		s, err := j.js.Stream(try, name)
		cancelTry()
		if !errors.Is(err, js.ErrStreamNotFound) && !errors.Is(err, context.DeadlineExceeded) {
			return s, err
		}
		if stopped := sleep(ctx, 20*time.Millisecond); stopped != nil {
			return nil, errors.Join(err, stopped)
		}
	}
}
