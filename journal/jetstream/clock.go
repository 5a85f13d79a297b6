package jetstream

import (
	"sync"
	"time"
)

// Clock is how the clock of the stream's leader compares with this machine's. The leader's is what sessions live by.
type Clock struct {
	Ahead  time.Duration // the leader's before this machine's; negative = behind
	Within time.Duration // how exact that is: half the time that the question took
	Asked  time.Time     // by this machine's; zero = never
}

// clock keeps the best of the latest comparisons. Safe for concurrent use.
type clock struct {
	mu sync.Mutex
	c  Clock
}

// clockHolds is for how long an exact comparison is kept over a newer one that is less so.
const clockHolds = 10 * time.Second

func (k *clock) note(theirs, before, after time.Time) {
	if theirs.IsZero() {
		return
	}
	half := after.Sub(before) / 2
	c := Clock{Ahead: theirs.Sub(before.Add(half)), Within: half, Asked: before}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c.Within <= k.c.Within || before.Sub(k.c.Asked) > clockHolds {
		k.c = c
	}
}

// Clock returns what was found out when the leader was asked lately, see [Journal.Bounds].
func (j *Journal) Clock() Clock {
	j.clock.mu.Lock()
	defer j.clock.mu.Unlock()
	return j.clock.c
}
