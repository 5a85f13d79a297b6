package stdio

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

const (
	placePause = 50 * time.Millisecond

	// freshFor is how long a child that has opened a session is left to the request that it was opened for. Where many
	// sessions want few places, they would else take them from each other before any of them was served.
	freshFor = time.Second
)

// place waits until c may have a child: the session's former one is gone, it is not in trouble, and there are not
// too many. For a place, the child that has had nothing to do for the longest time is stopped.
func (u *Upstream) place(ctx context.Context, c *conn) (*launched, error) {
	again := time.NewTicker(placePause)
	defer again.Stop()
	for {
		u.mu.Lock()
		if err := u.barred(c.ref); err != nil {
			u.mu.Unlock()
			return nil, err
		}
		if u.live[c] != nil {
			u.mu.Unlock()
			return nil, errors.New("a child is being started already")
		}
		former := u.former(c)
		if former == nil && len(u.live) < u.o.MaxChildren {
			l := &launched{}
			u.live[c] = l
			u.mu.Unlock()
			return l, nil
		}
		freed := u.freed
		if former == nil {
			former = u.idlest()
		}
		if former != nil {
			u.leave(former)
		}
		u.mu.Unlock()
		select {
		case <-freed:
		case <-again.C: // somebody may have become idle
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-u.stop:
			return nil, errClosed
		}
	}
}

// barred says why a session gets no child now. u.mu is held.
func (u *Upstream) barred(ref journal.Ref) error {
	if u.closed {
		return errClosed
	}
	if t := u.trouble[ref]; t != nil {
		if wait := time.Until(t.until); wait > 0 {
			return fmt.Errorf("its child has died %d times in a row: the next start is in %v", t.deaths, wait.Round(time.Millisecond))
		}
	}
	return nil
}

// former returns another connection of c's session that has a child. u.mu is held.
func (u *Upstream) former(c *conn) *conn {
	for other := range u.live {
		if other != c && other.ref == c.ref {
			return other
		}
	}
	return nil
}

// idlest returns whose child has had nothing to do for the longest time, and sees to it that it gets nothing to do
// any more; nil: all have. u.mu is held.
func (u *Upstream) idlest() (found *conn) {
	var since time.Time
	for c, l := range u.live {
		if l.leaving || l.child == nil {
			continue
		}
		if used, idle := c.idleSince(); idle && (found == nil || used.Before(since)) {
			found, since = c, used
		}
	}
	if found == nil || !found.retire(found.mu.TryLock) {
		return nil
	}
	return found
}

// idleSince reports whether nothing is under way, or about to be, and since when. It does not wait for a connection that
// is busy just now.
func (c *conn) idleSince() (time.Time, bool) {
	if !c.mu.TryLock() {
		return time.Time{}, false
	}
	defer c.mu.Unlock()
	return c.used, c.unused() && (c.served || time.Since(c.used) > freshFor)
}

// unused reports whether the child has nothing to do. c.mu is held.
func (c *conn) unused() bool { return c.id != "" && len(c.calls) == 0 && len(c.subs) == 0 }

// retire makes the session unknown if its child has nothing to do.
func (c *conn) retire(lock func() bool) bool {
	if !lock() {
		return false
	}
	defer c.mu.Unlock()
	if !c.unused() {
		return false
	}
	c.lose()
	return true
}

// leave has a connection's child stopped in the background. u.mu is held.
func (u *Upstream) leave(c *conn) {
	l := u.live[c]
	if l == nil || l.leaving || l.child == nil {
		return // whoever starts it just now sees to it
	}
	l.leaving = true
	ch := l.child
	u.wg.Go(func() {
		c.mu.Lock()
		if c.child == ch {
			c.lose()
		}
		c.mu.Unlock()
		ch.stop()
	})
}

// bored stops the child of a connection that has been idle for long.
func (u *Upstream) bored(c *conn) {
	if !c.retire(func() bool { c.mu.Lock(); return true }) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		u.leave(c)
	}
}

// trouble is a session whose child keeps dying.
type trouble struct {
	deaths int
	last   time.Time
	until  time.Time // no child is started before
}

const (
	troubleWindow = time.Minute // a child that lives longer starts a new count
	troubleFirst  = 250 * time.Millisecond
	troubleMax    = 30 * time.Second
	maxTroubled   = 10_000 // sessions that are remembered
)

// mark counts a child's death: the first is free, then starts are ever further apart.
func (u *Upstream) mark(ref journal.Ref) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	t := u.trouble[ref]
	if t == nil || now.Sub(t.last) > troubleWindow {
		if t == nil && len(u.trouble) >= maxTroubled {
			u.forget(now)
		}
		t = &trouble{}
		u.trouble[ref] = t
	}
	t.last = now
	if t.deaths++; t.deaths > 1 {
		t.until = now.Add(min(troubleFirst<<min(t.deaths-2, 10), troubleMax))
	}
}

// forget drops those whose trouble is over, or everything. u.mu is held.
func (u *Upstream) forget(now time.Time) {
	for ref, t := range u.trouble {
		if now.Sub(t.last) > troubleWindow {
			delete(u.trouble, ref)
		}
	}
	if len(u.trouble) >= maxTroubled {
		clear(u.trouble)
	}
}

const memoryPause = time.Second

// keepSmall kills children that have grown too large.
func (u *Upstream) keepSmall() {
	t := time.NewTicker(memoryPause)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			u.weigh()
		case <-u.stop:
			return
		}
	}
}

func (u *Upstream) weigh() {
	groups, children := map[int]int64{}, map[int]*child{}
	u.mu.Lock()
	for _, l := range u.live {
		if l.child != nil {
			groups[l.child.group.id()], children[l.child.group.id()] = 0, l.child
		}
	}
	u.mu.Unlock()
	if len(groups) == 0 {
		return
	}
	memoryOf(groups)
	for id, n := range groups {
		if n > u.o.MaxMemory {
			children[id].kill(fmt.Errorf("it has %d MiB of memory, more than %d MiB", n>>20, u.o.MaxMemory>>20))
		}
	}
}
