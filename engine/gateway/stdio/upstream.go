package stdio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/engine/gateway"
	"github.com/dormouse-mcp/dormouse/journal"
)

// Upstream is a gateway.Upstream of child processes, one for each session. Safe for concurrent use.
type Upstream struct {
	o        Options
	path     string
	starting chan struct{} // held by children that have not answered initialize yet

	mu      sync.Mutex
	live    map[*conn]*launched // all children that are not gone
	freed   chan struct{}       // closed when there is one less, or one that idles more
	trouble map[journal.Ref]*trouble
	closed  bool
	started uint64
	dead    uint64

	stop chan struct{}
	wg   sync.WaitGroup
}

// launched is a place that a child has taken, from before it was started until it is gone.
type launched struct {
	child   *child // nil while it is being started
	began   time.Time
	release func() // gives back the place among those that start
	late    *time.Timer
	leaving bool // being stopped
}

// New returns the upstream of a command, which must be there; nothing is started yet. Close must be called in the end.
func New(o Options) (*Upstream, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	path, err := Find(o.Command)
	if err != nil {
		return nil, err
	}
	u := &Upstream{
		o: o, path: path, starting: make(chan struct{}, o.MaxStarting), live: map[*conn]*launched{},
		freed: make(chan struct{}), trouble: map[journal.Ref]*trouble{}, stop: make(chan struct{}),
	}
	if o.MaxMemory > 0 {
		u.wg.Go(u.keepSmall)
	}
	return u, nil
}

// Shared is false: a child ends with this process.
func (u *Upstream) Shared() bool { return false }

// Connect returns a connection whose child starts with the initialize request.
func (u *Upstream) Connect(ctx context.Context, t gateway.Tenant) (gateway.Conn, error) {
	if t == nil {
		return nil, errors.New("a child process serves sessions only")
	}
	ic, err := t.Context(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{
		u: u, ref: t.Ref(), env: environment(os.LookupEnv, u.o.Env, t.Ref(), ic), secrets: []string{ic.N8nAPIKey, ic.Text(n8nMCPAccess)},
		log: u.o.Logger.With().Stringer("session", t.Ref()).Logger(), writing: make(chan struct{}, 1),
	}
	return c, nil
}

// Stats counts children since New.
type Stats struct {
	Alive   int    // now, those that are being started included
	Started uint64 // processes
	Died    uint64 // of these without being told to
}

// Stats returns the counts.
func (u *Upstream) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	return Stats{Alive: len(u.live), Started: u.started, Died: u.dead}
}

// Children returns how many children are alive or being started.
func (u *Upstream) Children() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.live)
}

// Close stops all children, starts no more and waits until they are gone: twice Options.StopGrace at most.
func (u *Upstream) Close() error {
	u.mu.Lock()
	if !u.closed {
		u.closed = true
		close(u.stop)
	}
	var all []*conn
	for c := range u.live {
		all = append(all, c)
	}
	u.mu.Unlock()
	var stopping sync.WaitGroup
	for _, c := range all {
		stopping.Go(func() { _ = c.Close() }) // never fails
	}
	stopping.Wait()
	u.wg.Wait()
	return nil
}

var errClosed = errors.New("the upstream is closed")

// launch starts c's child once there is a place for it. c.mu is not held.
func (u *Upstream) launch(ctx context.Context, c *conn, opening string) (*child, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, u.o.StartTimeout, errors.New("no place for another child"))
	defer cancel()
	l, err := u.place(ctx, c)
	if err != nil {
		return nil, err
	}
	select {
	case u.starting <- struct{}{}:
	case <-ctx.Done():
		u.vacate(c, l)
		return nil, context.Cause(ctx)
	}
	l.release = sync.OnceFunc(func() { <-u.starting })
	ch, err := u.spawn(c, l, opening) //nolint:contextcheck // the child outlives the request that starts it
	if err != nil {
		u.mark(c.ref)
		u.vacate(c, l)
	}
	return ch, err
}

func (u *Upstream) spawn(c *conn, l *launched, opening string) (*child, error) {
	known := make(chan struct{}) // closed once ch can be read
	var ch *child
	s := &spec{
		path: u.path, args: u.o.Command, env: c.env, secrets: c.secrets, maxMessage: u.o.MaxMessage, grace: u.o.StopGrace,
		log: c.log, message: func(line []byte) { <-known; c.route(line) },
		died: func(err error) { <-known; u.died(c, l, ch, err) },
	}
	defer close(known)
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if ch, err = startChild(s); err != nil {
		return nil, err
	}
	c.reset(ch, opening)
	if c.idle == nil {
		c.idle = time.AfterFunc(u.o.IdleAfter, func() { u.bored(c) })
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	l.child, l.began = ch, time.Now()
	u.started++
	l.late = time.AfterFunc(u.o.StartTimeout, func() { ch.kill(fmt.Errorf("no answer to initialize in %v", u.o.StartTimeout)) })
	return ch, nil
}

// opened notes that c's child has answered initialize. c.mu is held.
func (u *Upstream) opened(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.live[c]; l != nil && l.child != nil {
		l.late.Stop()
		l.release()
		c.log.Info().Dur("took", time.Since(l.began)).Int("pid", l.child.cmd.Process.Pid).Msg("child initialized")
	}
}

// died is called when a child is gone.
func (u *Upstream) died(c *conn, l *launched, ch *child, err error) {
	if !errors.Is(err, errStopped) {
		u.mark(c.ref)
		u.mu.Lock()
		u.dead++
		u.mu.Unlock()
	}
	l.late.Stop()
	u.vacate(c, l)
	c.bury(ch, err)
}

// vacate gives back a child's places.
func (u *Upstream) vacate(c *conn, l *launched) {
	if l.release != nil {
		l.release()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.live[c] == l {
		delete(u.live, c)
	}
	u.changed()
}

// changed wakes those who wait for a place. u.mu is held.
func (u *Upstream) changed() {
	close(u.freed)
	u.freed = make(chan struct{})
}
