package jetstream

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	js "github.com/nats-io/nats.go/jetstream"
)

// leaderless is a stream that never answers what it was asked before its leader was there.
type leaderless struct {
	js.Stream

	elected time.Time
	asked   atomic.Int32
	err     error
}

func (l *leaderless) Info(ctx context.Context, _ ...js.StreamInfoOpt) (*js.StreamInfo, error) {
	l.asked.Add(1)
	if time.Now().Before(l.elected) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &js.StreamInfo{TimeStamp: l.elected}, l.err
}

// TestAskedAgainAfterAnElection: whoever asked while there was no leader hears from the new one soon.
func TestAskedAgainAfterAnElection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &leaderless{elected: time.Now().Add(1700 * time.Millisecond)}
		began := time.Now()
		info, asked, err := askInfo(t.Context(), l)
		if err != nil || !info.TimeStamp.Equal(l.elected) {
			t.Fatal(info, err)
		}
		if took := time.Since(began); took != 2*time.Second || asked.Sub(began) != took {
			t.Errorf("answered after %v, asked after %v", took, asked.Sub(began))
		}
		if n := l.asked.Load(); n != 5 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestNeverAnswered: without a leader the question ends with its context, and an error is an answer.
func TestNeverAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, _, err := askInfo(ctx, &leaderless{elected: time.Now().Add(time.Hour)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		l := &leaderless{err: js.ErrStreamNotFound}
		if _, _, err := askInfo(t.Context(), l); !errors.Is(err, js.ErrStreamNotFound) || l.asked.Load() != 1 {
			t.Errorf("%v, asked %d times", err, l.asked.Load())
		}
	})
}
