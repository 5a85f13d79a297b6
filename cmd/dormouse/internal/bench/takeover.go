package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// The ways in which a replica goes, and what its sessions' upstreams are.
const (
	WayKilled  = "SIGKILL, server in the process"
	WayStopped = "SIGTERM, server in the process"
	WayPaused  = "SIGSTOP, server in the process"
	WayShared  = "SIGKILL, HTTP upstream"
)

// The ways in which replicas go whose embedded servers are the cluster: each in turn, so about one time in three the one
// that leads the stream.
const (
	WayKilledMember  = "SIGKILL, embedded cluster"
	WayStoppedMember = "SIGTERM, embedded cluster"
)

// TakeOverRow is what the clients of one replica saw when it went: from the signal to the first answer that they got from
// another one. With SIGTERM, where calls are answered all the time, the longest wait of one.
type TakeOverRow struct {
	Way      string        `json:"way"`
	Rounds   int           `json:"rounds"`   // how often a replica went
	Sessions int           `json:"sessions"` // how many sessions that concerned, all rounds together
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	Longest  time.Duration `json:"longest"`
	Failed   int           `json:"failed"` // calls that were not answered by a result before the one that was
}

// goneFor is how long sessions are called after their replica got SIGTERM: longer than its end takes.
const goneFor = 2 * time.Second

// callPause is between two calls of one session.
const callPause = 2 * time.Millisecond

// goer is one way for a replica to go.
type goer struct {
	way    string
	signal syscall.Signal
	rounds int
	shared bool
	turns  bool // each replica in turn, instead of always the first
}

// takeOver measures how long sessions are not answered when the replica that serves them goes.
func (r *replicas) takeOver(ctx context.Context) (rows []TakeOverRow, err error) {
	upstream, up, err := startUpstream(ctx)
	if err != nil {
		return nil, err
	}
	defer up.stop()
	rows, err = r.goers(ctx, rows, []goer{
		{way: WayKilled, signal: syscall.SIGKILL, rounds: r.o.Kills},
		{way: WayStopped, signal: syscall.SIGTERM, rounds: r.o.Kills},
		{way: WayPaused, signal: syscall.SIGSTOP, rounds: min(r.o.Kills, r.o.Pauses)},
	}, "inprocess")
	if err != nil {
		return rows, err
	}
	rows, err = r.goers(ctx, rows, []goer{
		{way: WayShared, signal: syscall.SIGKILL, rounds: r.o.Kills, shared: true},
	}, "shared", "--upstream", upstream)
	if err != nil || r.o.Members == 0 {
		return rows, err
	}
	return r.goers(ctx, rows, []goer{
		{way: WayKilledMember, signal: syscall.SIGKILL, rounds: r.o.Members, turns: true},
		{way: WayStoppedMember, signal: syscall.SIGTERM, rounds: r.o.Members, turns: true},
	}, membersPrefix)
}

// membersPrefix names the fleet that is its own cluster.
const membersPrefix = "members"

// startUpstream starts the lean MCP server and returns its endpoint.
func startUpstream(ctx context.Context) (endpoint string, _ *child, err error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return "", nil, err
	}
	up, err := start(ctx, "bench", "part", "--listen", address)
	if err != nil {
		return "", nil, err
	}
	if err := up.ready(ctx, "http://"+address+"/healthz", 20*time.Millisecond); err != nil {
		up.stop()
		return "", nil, err
	}
	return "http://" + address + "/mcp", up, nil
}

// goers has the first of three replicas go in each of some ways.
func (r *replicas) goers(ctx context.Context, rows []TakeOverRow, all []goer, prefix string, flags ...string) ([]TakeOverRow, error) {
	on := r.cluster
	if prefix == membersPrefix {
		on = nil
	}
	f, err := newFleet(r.folder, on, prefix, flags...)
	if err != nil {
		return rows, err
	}
	defer f.stop()
	if err := f.addAll(ctx, 3); err != nil {
		return rows, err
	}
	for _, g := range all {
		if g.rounds == 0 {
			continue
		}
		row, err := r.goes(ctx, g, f)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", g.way, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (r *replicas) goes(ctx context.Context, g goer, f *fleet) (TakeOverRow, error) {
	row := TakeOverRow{Way: g.way, Rounds: g.rounds, Sessions: g.rounds * r.o.Owned}
	var all []time.Duration
	for round := range g.rounds {
		r.o.Step(fmt.Sprintf("take-over: %s, %d of %d", g.way, round+1, g.rounds))
		for _, m := range f.members { // the one that went
			if m.child == nil {
				if err := m.up(ctx); err != nil {
					return row, err
				}
			}
		}
		victim := 0
		if g.turns {
			victim = round % len(f.members)
		}
		waits, failed, err := r.oneGoes(ctx, g, f, victim)
		if err != nil {
			return row, err
		}
		all = append(all, waits...)
		row.Failed += failed
	}
	s := Sample{}.WithLatencies(all)
	row.P50, row.P99, row.Longest = s.P50, s.P99, s.Longest
	return row, nil
}

// oneGoes lets a replica go while its sessions call the others, in turn. The replica is dead at the end.
func (r *replicas) oneGoes(ctx context.Context, g goer, f *fleet, n int) (waits []time.Duration, failed int, err error) {
	victim := f.members[n]
	load := Load{Conns: r.o.Owned, Tool: ToolBuiltIn, Header: asTenant()}
	if g.shared {
		load.Tool, load.Header = ToolSmall, nil
	}
	open, err := load.connect(ctx, victim.url().String())
	if err != nil {
		return nil, 0, err
	}
	defer closeAll(open)
	for _, s := range open {
		if !s.call(1, load.Tool) {
			return nil, 0, errors.New("a session is not served where it began")
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("a session was not answered within a minute"))
	defer cancel()
	if err := victim.signal(g.signal); err != nil {
		return nil, 0, err
	}
	began := time.Now()
	until := began
	if g.signal == syscall.SIGTERM {
		until = began.Add(goneFor)
	}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for i, s := range open {
		w := watcher{to: f.members[(n+1+i%2)%len(f.members)].url(), header: load.Header, id: s.id, tool: load.Tool}
		wg.Go(func() {
			longest, errs := w.watch(ctx, began, until)
			mu.Lock()
			defer mu.Unlock()
			waits, failed = append(waits, longest), failed+errs
		})
	}
	wg.Wait()
	if g.signal == syscall.SIGTERM {
		select {
		case <-victim.exited:
		case <-ctx.Done(): // it is killed now
		}
	}
	victim.down()
	if ctx.Err() != nil {
		return nil, 0, context.Cause(ctx)
	}
	return waits, failed, nil
}

// watcher calls one session through one replica.
type watcher struct {
	to     *url.URL
	header http.Header
	id     string
	tool   string
}

// watch calls until a call that began at until or later is answered, and returns the longest time without an answer.
func (w watcher) watch(ctx context.Context, last, until time.Time) (longest time.Duration, failed int) {
	for ctx.Err() == nil {
		begin := time.Now()
		if !callOnce(ctx, w.to, w.header, w.id, w.tool) {
			failed++
			time.Sleep(callPause)
			continue
		}
		now := time.Now()
		longest = max(longest, now.Sub(last))
		if !begin.Before(until) {
			return longest, failed
		}
		time.Sleep(callPause)
		last = time.Now()
	}
	return longest, failed
}
