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
	refusal error // what it says meanwhile; nil = nothing
	err     error
}

func (l *leaderless) CachedInfo() *js.StreamInfo {
	return &js.StreamInfo{Config: js.StreamConfig{Replicas: 3}}
}

func (l *leaderless) Info(ctx context.Context, _ ...js.StreamInfoOpt) (*js.StreamInfo, error) {
	l.asked.Add(1)
	if time.Now().Before(l.elected) {
		if l.refusal != nil {
			return nil, l.refusal
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &js.StreamInfo{TimeStamp: l.elected}, l.err
}

// TestAskedAgainAfterAnElection: whoever asked while there was no leader hears from the new one soon.
func TestAskedAgainAfterAnElection(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{nil, &js.APIError{ErrorCode: codeSystemUnavailable}} {
		synctest.Test(t, func(t *testing.T) { askedAgain(t, refusal) })
	}
}

func askedAgain(t *testing.T, refusal error) {
	t.Helper()
	l := &leaderless{elected: time.Now().Add(1700 * time.Millisecond), refusal: refusal}
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

// TestOnlyALeaderWithAMajorityAnswers: members without a leader answer too, and a leader that was cut off.
func TestOnlyALeaderWithAMajorityAnswers(t *testing.T) {
	t.Parallel()
	peers := func(active ...time.Duration) (all []*js.PeerInfo) {
		for _, a := range active {
			all = append(all, &js.PeerInfo{Active: a, Offline: a < 0})
		}
		return all
	}
	for name, c := range map[string]struct {
		replicas int
		cluster  *js.ClusterInfo
		leads    bool
	}{
		"one server":                  {1, nil, true},
		"no cluster":                  {3, nil, false},
		"no leader":                   {3, &js.ClusterInfo{Replicas: peers(1, 1)}, false},
		"leader":                      {3, &js.ClusterInfo{Leader: "a", Replicas: peers(1, time.Second)}, true},
		"leader, one peer is silent":  {3, &js.ClusterInfo{Leader: "a", Replicas: peers(time.Minute, time.Second)}, true},
		"leader, one peer is offline": {3, &js.ClusterInfo{Leader: "a", Replicas: peers(-1, time.Second)}, true},
		"leader, alone":               {3, &js.ClusterInfo{Leader: "a", Replicas: peers(4*time.Second, -1)}, false},
		"of five, with two":           {5, &js.ClusterInfo{Leader: "a", Replicas: peers(1, 1, time.Minute, time.Minute)}, true},
		"of five, with one":           {5, &js.ClusterInfo{Leader: "a", Replicas: peers(1, time.Minute, time.Minute, time.Minute)}, false},
	} {
		info := &js.StreamInfo{Config: js.StreamConfig{Replicas: c.replicas}, Cluster: c.cluster}
		if leads(info) != c.leads {
			t.Errorf("%s: %v", name, !c.leads)
		}
	}
}
