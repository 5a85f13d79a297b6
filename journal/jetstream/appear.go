package jetstream

import (
	"context"
	"errors"
	"time"

	js "github.com/nats-io/nats.go/jetstream"
)

// appearTry is how long one question may take: while a new stream of a cluster has no leader, nobody answers.
const appearTry = 500 * time.Millisecond

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
