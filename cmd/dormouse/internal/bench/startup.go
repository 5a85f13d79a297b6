package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// StartupOptions say what Startup measures.
type StartupOptions struct {
	Sessions int          // in the journal when the daemon starts
	Rounds   int          // kills and starts
	Step     func(string) // told what is under way; not nil
}

// StartupResult is what Startup measured.
type StartupResult struct {
	Sessions int             `json:"sessions"`
	Creates  Sample          `json:"-"`
	PerSec   float64         `json:"createsPerSecond"` // initialize and notifications/initialized over HTTP, durable
	P50      time.Duration   `json:"createP50"`
	P99      time.Duration   `json:"createP99"`
	Starts   []time.Duration `json:"starts"` // from exec to the first answered call of an old session
	Median   time.Duration   `json:"median"`
}

const fillers = 128

// Startup opens sessions through a daemon, kills it with SIGKILL and measures how long a new one needs from
// exec until a call of a session that it never saw is answered.
func Startup(ctx context.Context, o StartupOptions) (StartupResult, error) {
	out := StartupResult{Sessions: o.Sessions}
	d, stop, err := newDaemon(ctx, o.Sessions)
	if err != nil {
		return out, err
	}
	defer stop()
	o.Step(fmt.Sprintf("opening %d sessions", o.Sessions))
	last, creates, err := d.fill(ctx, o.Sessions)
	if err != nil {
		return out, err
	}
	out.Creates, out.PerSec, out.P50, out.P99 = creates, creates.PerSecond(), creates.P50, creates.P99
	samples := make([]Sample, 0, o.Rounds)
	for round := range o.Rounds {
		o.Step(fmt.Sprintf("kill and start %d of %d", round+1, o.Rounds))
		took, err := d.restart(ctx, last)
		if err != nil {
			return out, err
		}
		out.Starts = append(out.Starts, took)
		samples = append(samples, Sample{Elapsed: took})
	}
	out.Median = Median(samples, func(s Sample) time.Duration { return s.Elapsed })
	return out, nil
}

type daemon struct {
	dir      string
	upstream string
	sessions int
	listen   string
}

// newDaemon returns a daemon that is to be started, on a folder of its own, before an upstream that serves. stop ends the
// upstream and removes the folder.
func newDaemon(ctx context.Context, sessions int) (d daemon, stop func(), err error) {
	upstream, err := freeAddress(ctx)
	if err != nil {
		return d, nil, err
	}
	dir, err := os.MkdirTemp("", "dormouse-bench-")
	if err != nil {
		return d, nil, err
	}
	up, err := start(ctx, "bench", "part", "--listen", upstream)
	if err != nil {
		return d, nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() {
		up.stop()
		_ = os.RemoveAll(dir) // it is in the folder for temporary files
	}
	if err := up.ready(ctx, "http://"+upstream+"/healthz", 20*time.Millisecond); err != nil {
		stop()
		return d, nil, err
	}
	return daemon{dir: filepath.Join(dir, "data"), upstream: upstream, sessions: sessions}, stop, nil
}

func (d *daemon) start(ctx context.Context) (*child, error) {
	var err error
	if d.listen, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	return start(ctx, "serve", "--data", d.dir, "--upstream", "http://"+d.upstream+"/mcp",
		"--listen", d.listen, "--admin-listen", "127.0.0.1:0", "--max-sessions", strconv.Itoa(d.sessions+1000))
}

// fill opens n sessions and returns the ID of the last one. The daemon is killed at the end.
func (d *daemon) fill(ctx context.Context, n int) (string, Sample, error) {
	p, err := d.start(ctx)
	if err != nil {
		return "", Sample{}, err
	}
	defer p.stop()
	if err := p.ready(ctx, "http://"+d.listen+"/readyz", 20*time.Millisecond); err != nil {
		return "", Sample{}, err
	}
	u := &url.URL{Scheme: "http", Host: d.listen, Path: "/mcp"}
	var (
		left = atomic.Int64{}
		mu   sync.Mutex
		all  []time.Duration
		id   string
		fail error
		wg   sync.WaitGroup
	)
	left.Store(int64(n))
	begin := time.Now()
	for range min(fillers, n) {
		wg.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				start := time.Now()
				s, err := Load{}.open(ctx, u)
				took := time.Since(start)
				mu.Lock()
				if err != nil {
					fail = err
				} else {
					all, id = append(all, took), s.id
					_ = s.conn.Close() // the session stays
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	out := Sample{Done: len(all), Elapsed: time.Since(begin)}
	out = out.WithLatencies(all)
	if fail != nil {
		return "", out, fmt.Errorf("opening sessions: %w", fail)
	}
	return id, out, nil
}

// restart starts the daemon and returns the time until session id is answered. It is killed at the end.
func (d *daemon) restart(ctx context.Context, id string) (time.Duration, error) {
	begin := time.Now()
	p, err := d.start(ctx)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	u := &url.URL{Scheme: "http", Host: d.listen, Path: "/mcp"}
	for ctx.Err() == nil && time.Since(begin) < time.Minute {
		if callOnce(ctx, u, nil, id, ToolSmall) {
			return time.Since(begin), nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("session was not answered within a minute\n%s", p.log.String())
}

// callOnce makes one call of a session on a connection of its own and reports whether it was answered by a result.
func callOnce(ctx context.Context, u *url.URL, header http.Header, id, tool string) bool {
	s, err := dial(ctx, u, header)
	if err != nil {
		return false
	}
	defer s.conn.Close()
	s.id = id
	return s.call(1, tool)
}
