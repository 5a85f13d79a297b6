package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// AppendOptions say what Append measures.
type AppendOptions struct {
	Callers  []int         // numbers of concurrent callers
	Sync     []string      // of SyncAlways and SyncDefault
	Rounds   int           // interleaved rounds for each cell, after one that warms up
	RoundFor time.Duration // how long one round lasts
	Step     func(string)  // told what is under way; not nil
}

// The ways of storing events, in the order of the rounds.
const (
	WayCreated = "dormouse, created"      // sealed and chained; ID and context were sealed before
	WayWhole   = "dormouse, whole create" // ID and context sealed by the vault, appended, folded
	WayMixed   = "dormouse, 90 % accesses"
	WayBare    = "packed but bare" // the same group commit of as many bytes, and nothing else
	WayMessage = "one message an event"
	WayAsync   = "async, 4096 pending"
	WayRedis   = "redis, one SET an event"
)

// naiveCallers is how many callers store one message an event: more of them wait longer and get no further.
const naiveCallers = 64

// AppendRow is one cell: medians over its rounds.
type AppendRow struct {
	Sync      string        `json:"sync"`
	Callers   int           `json:"callers"`
	Way       string        `json:"way"`
	PerSecond float64       `json:"perSecond"`
	P50       time.Duration `json:"p50"` // of a caller's wait
	P99       time.Duration `json:"p99"`
	CPU       time.Duration `json:"cpuPerEvent"` // servers included
	OfMessage float64       `json:"ofMessage"`   // throughput over one message an event
	OfBare    float64       `json:"ofBare"`      // throughput over packed but bare
	P50Ratio  float64       `json:"p50OfMessage"`
	Note      string        `json:"note,omitempty"` // why there are no figures
}

// appender is one way of storing events.
type appender interface {
	// append stores some events for one caller and returns how many, once they are acknowledged.
	append(ctx context.Context, caller int) (int, error)
	// settle returns once nothing is left that was not waited for.
	settle(ctx context.Context) error
	// cpu returns the CPU time of processes that serve this way alone.
	cpu() time.Duration
	close(ctx context.Context) error
}

// way is an appender to be opened. Its error may be errAbsent.
type way struct {
	name    string
	callers func(int) int
	open    func(ctx context.Context, s *scratch, callers int) (appender, error)
}

// errAbsent says that what a way needs is not on this machine.
var errAbsent = errors.New("not installed")

func appendWays() []way {
	return []way{
		{WayCreated, allCallers, openCreated},
		{WayWhole, allCallers, openWhole},
		{WayMixed, allCallers, openMixed},
		{WayBare, allCallers, openBare},
		{WayMessage, fewCallers, openMessage},
		{WayAsync, oneCaller, openAsync},
		{WayRedis, allCallers, openRedis},
	}
}

func allCallers(n int) int { return n }
func fewCallers(n int) int { return min(n, naiveCallers) }
func oneCaller(int) int    { return 1 }

// Append measures storing session events durably, each acknowledged to its own caller, beside what one would
// use instead. Every cell has an embedded server of its own.
func Append(ctx context.Context, o AppendOptions) ([]AppendRow, error) {
	var rows []AppendRow
	for _, sync := range o.Sync {
		for _, callers := range o.Callers {
			o.Step(fmt.Sprintf("append: sync %s, %d callers", sync, callers))
			cell, err := o.cell(ctx, sync, callers)
			if err != nil {
				return rows, err
			}
			rows = append(rows, cell...)
		}
	}
	return rows, nil
}

func (o AppendOptions) cell(ctx context.Context, sync string, callers int) (rows []AppendRow, err error) {
	s, err := newScratch(sync)
	if err != nil {
		return nil, err
	}
	defer s.close()
	ways := appendWays()
	appenders := make([]appender, len(ways))
	rows = make([]AppendRow, len(ways))
	defer func() {
		for _, a := range appenders {
			if a != nil {
				err = errors.Join(err, a.close(ctx))
			}
		}
	}()
	for i, w := range ways {
		rows[i] = AppendRow{Sync: sync, Callers: w.callers(callers), Way: w.name}
		appenders[i], err = w.open(ctx, s, rows[i].Callers)
		switch {
		case errors.Is(err, errAbsent):
			rows[i].Note = err.Error()
		case err != nil:
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	samples, err := o.rounds(ctx, rows, appenders)
	if err != nil {
		return nil, err
	}
	fillAppendRows(rows, samples)
	return rows, nil
}

func (o AppendOptions) rounds(ctx context.Context, rows []AppendRow, appenders []appender) ([][]Sample, error) {
	samples := make([][]Sample, len(appenders))
	for round := range o.Rounds + 1 {
		for i, a := range appenders {
			if a == nil {
				continue
			}
			calm(rows[i].Sync)
			s, err := appendRound(ctx, a, rows[i].Callers, o.RoundFor)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", rows[i].Way, err)
			}
			if round > 0 { // the first one warms up
				samples[i] = append(samples[i], s)
			}
		}
	}
	return samples, nil
}

// calm lets no round pay for the garbage, nor for the unwritten pages, of the one before.
func calm(sync string) {
	runtime.GC()
	if sync != SyncAlways {
		unix.Sync()
	}
}

func fillAppendRows(rows []AppendRow, samples [][]Sample) {
	var message, bare AppendRow
	for i := range rows {
		r := &rows[i]
		r.PerSecond = Median(samples[i], Sample.PerSecond)
		r.P50 = Median(samples[i], func(s Sample) time.Duration { return s.P50 })
		r.P99 = Median(samples[i], func(s Sample) time.Duration { return s.P99 })
		r.CPU = Median(samples[i], Sample.CPUPerRequest)
		switch r.Way {
		case WayMessage:
			message = *r
		case WayBare:
			bare = *r
		}
	}
	for i := range rows {
		r := &rows[i]
		r.OfMessage = ratio(r.PerSecond, message.PerSecond)
		r.OfBare = ratio(r.PerSecond, bare.PerSecond)
		r.P50Ratio = ratio(float64(r.P50), float64(message.P50))
	}
}

// appendRound has the callers append for d, and waits for what they left to be waited for.
func appendRound(ctx context.Context, a appender, callers int, d time.Duration) (Sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu  sync.Mutex
		out Sample
		all [][]time.Duration
		wg  sync.WaitGroup
	)
	cpu := processCPU() + a.cpu()
	begin := time.Now()
	end := begin.Add(d)
	for caller := range callers {
		wg.Go(func() {
			own, free := context.WithCancel(ctx) // as each request has its own
			defer free()
			done, waits, err := appendUntil(own, a, caller, end)
			if err != nil {
				cancel(err)
			}
			mu.Lock()
			defer mu.Unlock()
			out.Done += done
			all = append(all, waits)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if err := a.settle(ctx); err != nil {
		return out, err
	}
	out.Elapsed = time.Since(begin)
	out.CPU = processCPU() + a.cpu() - cpu
	return out.WithLatencies(slices.Concat(all...)), nil
}

func appendUntil(ctx context.Context, a appender, caller int, end time.Time) (done int, waits []time.Duration, err error) {
	waits = make([]time.Duration, 0, 4096)
	for start := time.Now(); start.Before(end); {
		n, err := a.append(ctx, caller)
		if err != nil {
			return done, waits, err
		}
		now := time.Now()
		waits = append(waits, now.Sub(start))
		start = now
		done += n
	}
	return done, waits, nil
}

// processCPU returns this process's user and system time so far.
func processCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
