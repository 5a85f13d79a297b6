// Package demo tells Dormouse's story with real parts: a gateway process, real MCP clients of several tenants, a
// stand-in for n8n, and kill -9.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/cmd/dormouse/internal/console"
	"github.com/dormouse-mcp/dormouse/engine/n8n/n8ntest"
)

// ErrNotOn says that a client did not go on with its session. The story has shown which.
var ErrNotOn = errors.New("not every client went on")

// Options configures a demo.
type Options struct {
	Executable string        // dormouse itself
	Clients    int           // how many; at least 1
	Kills      int           // how often the gateway is killed; at least 1
	Pause      time.Duration // between a client's calls; 0 = 25 ms
	Traffic    time.Duration // between two kills; 0 = 1 s
	Keep       bool          // leave the folder behind
	Streams    console.Streams
}

func (o *Options) fill() error {
	if o.Clients < 1 || o.Clients > 500 {
		return errors.New("want 1 to 500 clients")
	}
	if o.Kills < 1 || o.Kills > 100 {
		return errors.New("want 1 to 100 kills")
	}
	if o.Pause == 0 {
		o.Pause = 25 * time.Millisecond
	}
	if o.Traffic == 0 {
		o.Traffic = time.Second
	}
	return nil
}

// story is a demo under way.
type story struct {
	o       Options
	t       *timeline
	n8n     *n8ntest.Server
	gateway *gateway
	tenants []n8ntest.Tenant
	clients []*client
	crashes []crash
}

// crash is one kill and what came after.
type crash struct {
	killed  time.Time // SIGKILL was sent
	started time.Time // the next process was started
	ready   time.Time // /readyz said yes
	back    time.Time // the last client had an answer
	state   readiness
}

// Run tells the story and leaves nothing behind, unless told to keep the folder. It fails with ErrNotOn if a client
// did not go on.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.fill(); err != nil {
		return console.Usage(err, "")
	}
	folder, err := os.MkdirTemp("", "dormouse-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if o.Keep || err != nil {
			fmt.Fprintf(o.Streams.Err, "\nkept: %s (data folder and serve.log); look into it with\n  dormouse log --data %s\n", folder, filepath.Join(folder, "data"))
			return
		}
		_ = os.RemoveAll(folder)
	}()
	s := &story{o: o, t: newTimeline(o.Streams.Out, o.Streams.OutTTY)}
	return s.tell(ctx, folder)
}

func (s *story) tell(ctx context.Context, folder string) error {
	fmt.Fprintf(s.o.Streams.Out, "%s. The gateway gets no chance to save anything.\n\n", s.title())
	if err := s.setUp(ctx, folder); err != nil {
		return err
	}
	defer s.n8n.Close()
	defer s.gateway.stop()
	if err := s.connect(ctx); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, c := range s.clients {
		wg.Go(func() { c.run(running, s.o.Pause) })
	}
	err := s.kills(ctx)
	stop()
	wg.Wait()
	if err == nil {
		err = s.report(ctx)
	}
	s.hangUp()
	return err
}

func (s *story) title() string {
	return fmt.Sprintf("%s of %s, %s", count(s.o.Clients, "MCP client"), count(s.tenantCount(), "tenant"), count(s.o.Kills, "kill -9"))
}

func (s *story) tenantCount() int { return min((s.o.Clients+1)/2, 4) }

func (s *story) setUp(ctx context.Context, folder string) error {
	names := []string{"acme", "globex", "initech", "umbrella"}
	for _, name := range names[:s.tenantCount()] {
		s.tenants = append(s.tenants, n8ntest.Tenant{Name: name, Key: "n8n_api_demo_" + name})
	}
	s.n8n = n8ntest.New(s.tenants...)
	if err := s.n8n.Start(ctx, ""); err != nil {
		return err
	}
	s.t.say("n8n", "a stand-in listens on %s, with workflows of %s", s.n8n.URL(), count(len(s.tenants), "tenant"))
	var err error
	if s.gateway, err = newGateway(ctx, s.o.Executable, folder, []string{"--url-policy", "moderate"}); err != nil {
		return errors.Join(err, s.n8n.Close())
	}
	_, err = s.startGateway(ctx, "started")
	if err != nil {
		s.gateway.stop()
		return errors.Join(err, s.n8n.Close())
	}
	return nil
}

func (s *story) startGateway(ctx context.Context, how string) (readiness, error) {
	// The child outlives ctx, so that it is ended in order.
	if err := s.gateway.start(context.WithoutCancel(ctx)); err != nil {
		return readiness{}, err
	}
	s.t.say("gateway", "%s: dormouse serve, pid %d, %s", how, s.gateway.cmd.Process.Pid, s.gateway.endpoint())
	began := time.Now()
	r, err := s.gateway.waitReady(ctx)
	if err == nil {
		what := "its journal is new"
		if r.Folded > 1 {
			what = count(r.Sessions, "session") + " restored from the journal, all dormant"
		}
		s.t.paint(green, "gateway", "ready after %s: %s", ms(time.Since(began)), what)
	}
	return r, err
}

func (s *story) connect(ctx context.Context) error {
	retries := 0
	if s.o.Kills > 5 {
		// The Go SDK's client gives up when its event stream broke more than five times without an event in between.
		retries = s.o.Kills + 5
		s.t.say("clients", "are told to bear %d broken event streams in a row (the Go SDK's default is 5)", retries)
	}
	for i := range s.o.Clients {
		name := fmt.Sprintf("client %d", i+1)
		c, err := connect(ctx, name, s.tenants[i%len(s.tenants)], s.gateway.endpoint(), s.n8n.URL(), retries)
		if err != nil {
			return err
		}
		s.clients = append(s.clients, c)
		if i < 8 {
			s.t.say(name, "initialized for tenant %-9s session %s (a ref: the ID itself is a secret)", c.tenant.Name+",", c.ref.String()[:8])
		}
	}
	if more := s.o.Clients - 8; more > 0 {
		s.t.say("", "and %s", count(more, "more client"))
	}
	return nil
}

// kills kills and restarts the gateway under traffic as often as asked.
func (s *story) kills(ctx context.Context) error {
	for i := range s.o.Kills {
		if err := s.traffic(ctx, s.o.Traffic); err != nil {
			return err
		}
		if err := s.crash(ctx, i); err != nil {
			return err
		}
	}
	return s.traffic(ctx, s.o.Traffic)
}

func (s *story) traffic(ctx context.Context, d time.Duration) error {
	answered, failed := s.counts()
	select {
	case <-time.After(d):
	case <-s.gateway.exited:
		return fmt.Errorf("the gateway ended by itself (%s); its log is %s", s.gateway.cmd.ProcessState, s.gateway.log)
	case <-ctx.Done():
		return ctx.Err()
	}
	a, f := s.counts()
	s.t.say("traffic", "%s answered, %d failed, in %s", count(a-answered, "tool call"), f-failed, d)
	return nil
}

func (s *story) crash(ctx context.Context, i int) error {
	x := crash{killed: time.Now()}
	if err := s.gateway.kill(); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	s.t.paint(red, "SIGKILL", "kill -9 of the gateway%s; the clients keep calling", ordinal(i, s.o.Kills))
	x.started = time.Now()
	var err error
	if x.state, err = s.startGateway(ctx, "again"); err != nil {
		return err
	}
	x.ready = time.Now()
	x.back = s.waitBack(ctx, x.killed)
	s.crashes = append(s.crashes, x)
	if x.back.IsZero() {
		s.t.paint(red, "clients", "not all had an answer within %s", callTimeout)
		return ctx.Err()
	}
	s.t.paint(green, "clients", "all %d have had an answer, on the sessions that they had: the gap was %s", len(s.clients), ms(x.back.Sub(x.killed)))
	return nil
}

// waitBack waits until every client has an answer to a call that began after the kill, and returns when the last one
// had; the zero time if that takes too long.
func (s *story) waitBack(ctx context.Context, killed time.Time) time.Time {
	deadline := time.After(callTimeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if last, ok := s.allAnswered(killed); ok {
			return last
		}
		select {
		case <-tick.C:
		case <-deadline:
			return time.Time{}
		case <-ctx.Done():
			return time.Time{}
		}
	}
}

func (s *story) allAnswered(since time.Time) (last time.Time, ok bool) {
	for _, c := range s.clients {
		at, ok := c.answeredSince(since)
		if !ok {
			return last, false
		}
		if at.After(last) {
			last = at
		}
	}
	return last, true
}

func (s *story) counts() (answered, failed int) {
	for _, c := range s.clients {
		for _, x := range c.all() {
			if x.err == nil {
				answered++
			} else {
				failed++
			}
		}
	}
	return answered, failed
}

// hangUp ends the sessions as clients do.
func (s *story) hangUp() {
	var wg sync.WaitGroup
	for _, c := range s.clients {
		wg.Go(func() { _ = c.session.Close() })
	}
	wg.Wait()
	s.t.say("clients", "hung up")
}
