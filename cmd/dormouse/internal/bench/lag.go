package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// LagRow is how far a standby was behind a writer that stored as much as it could, sampled while it did.
type LagRow struct {
	Load      string        `json:"load"`
	Callers   int           `json:"callers"`
	PerSecond float64       `json:"perSecond"` // events acknowledged
	Samples   int           `json:"samples"`
	Events    LagEvents     `json:"events"`  // acknowledged to the writer and not yet folded by the standby
	P50       time.Duration `json:"p50"`     // since the oldest of them was acknowledged
	P99       time.Duration `json:"p99"`     //
	Longest   time.Duration `json:"longest"` //
	Told      time.Duration `json:"told"`    // the longest lag that the standby's own /readyz told
	CaughtUp  time.Duration `json:"caughtUp"`
}

// LagEvents are quantiles of a number of events.
type LagEvents struct {
	P50  uint64 `json:"p50"`
	P99  uint64 `json:"p99"`
	Most uint64 `json:"most"`
}

// samplePause is between two looks at the standby.
const samplePause = 5 * time.Millisecond

// lag measures how far a replica is behind while another process writes to their journal as fast as it can.
func (r *replicas) lag(ctx context.Context) (rows []LagRow, err error) {
	for _, mixed := range []bool{false, true} {
		name := WayCreated
		if mixed {
			name = WayMixed
		}
		r.o.Step("lag of a standby: " + name)
		row, err := r.lagUnder(ctx, mixed)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", name, err)
		}
		row.Load = name
		rows = append(rows, row)
	}
	return rows, nil
}

func (r *replicas) lagUnder(ctx context.Context, mixed bool) (row LagRow, err error) {
	f, err := newFleet(r.folder, r.cluster, fmt.Sprintf("lag%t", mixed))
	if err != nil {
		return row, err
	}
	defer f.stop()
	if err := f.addAll(ctx, 1); err != nil {
		return row, err
	}
	w, err := openWriter(ctx, f, mixed)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	standby := f.members[0]
	before, err := standby.tells(ctx)
	if err != nil {
		return row, err
	}
	w.acked.base = before.Events
	return r.follow(ctx, standby, w)
}

// follow samples while the writer writes, and then waits until everything is folded.
func (r *replicas) follow(ctx context.Context, standby *member, w *writer) (row LagRow, err error) {
	row.Callers = r.o.Callers[0]
	done := make(chan error, 1)
	var wrote Sample
	go func() {
		var err error
		wrote, err = appendRound(ctx, w, row.Callers, r.o.LagFor)
		done <- err
	}()
	var waits []time.Duration
	var events []uint64
	for writing := true; writing; {
		select {
		case err := <-done:
			if err != nil {
				return row, err
			}
			writing = false
		case <-time.After(samplePause):
		}
		t, behind, since, err := w.acked.look(ctx, standby)
		if err != nil {
			return row, err
		}
		row.Told = max(row.Told, time.Duration(t.Replica.Lag.Seconds*float64(time.Second)))
		waits, events = append(waits, since), append(events, behind)
	}
	end := time.Now()
	for behind := uint64(1); behind > 0; {
		if _, behind, _, err = w.acked.look(ctx, standby); err != nil {
			return row, err
		}
		time.Sleep(time.Millisecond)
	}
	row.CaughtUp = time.Since(end)
	slices.Sort(events)
	s := Sample{}.WithLatencies(waits)
	row.Samples, row.PerSecond = len(waits), float64(w.acked.total())/wrote.Elapsed.Seconds()
	row.P50, row.P99, row.Longest = s.P50, s.P99, s.Longest
	row.Events = LagEvents{quantile(events, 0.5), quantile(events, 0.99), events[len(events)-1]}
	return row, nil
}

// writer stores creates of ever new sessions, alone or with nine accesses each, in a fleet's journal.
type writer struct {
	inProcess

	scratch   *scratch
	minter    *minter
	committer *commit.Committer
	mixed     bool
	next      atomic.Int64
	acked     acked
}

func openWriter(ctx context.Context, f *fleet, mixed bool) (_ *writer, err error) {
	w := &writer{mixed: mixed}
	if w.scratch, err = newShared(f.cluster); err != nil {
		return nil, err
	}
	keys, err := seal.Load(f.keys())
	if err != nil {
		return nil, err
	}
	j, err := jetstream.Open(ctx, w.scratch.nc, jetstream.Options{Prefix: f.prefix})
	if err != nil {
		return nil, err
	}
	if w.minter, err = newMinter(ctx, keys, j.Keys()); err != nil {
		return nil, err
	}
	id := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(keys, id)
	if err != nil {
		return nil, err
	}
	w.committer, err = commit.New(commit.Options{ //nolint:contextcheck // it outlives the call and is closed
		Port: j, Encoder: sealer, Journal: j.ID(), Writer: id, KeepBatches: -1, Observer: &w.acked,
	})
	return w, err
}

func (w *writer) append(ctx context.Context, _ int) (int, error) {
	n := int(w.next.Add(1)) * mixedPart
	e, err := w.minter.created(ctx, n, journal.InstantOf(time.Now()))
	if err != nil {
		return 0, err
	}
	if _, err := w.committer.Append(ctx, e); err != nil || !w.mixed {
		return 1, err
	}
	for i := range mixedPart - 1 {
		w.committer.Post(access(e.Ref, n+i, e.At))
	}
	return mixedPart, nil
}

func (w *writer) settle(ctx context.Context) error { return w.committer.Flush(ctx) }

func (w *writer) close(ctx context.Context) error {
	err := w.committer.Close(ctx)
	w.scratch.close()
	return err
}

// acked remembers when how many events had been acknowledged. Safe for concurrent use.
type acked struct {
	base uint64 // events that the journal had before; set before the first batch

	mu   sync.Mutex
	sums []ackedSum
}

type ackedSum struct {
	events uint64 // so far
	at     time.Time
}

// BatchCommitted implements commit.Observer.
func (a *acked) BatchCommitted(events, _ int, _ time.Duration) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := uint64(events)
	if n := len(a.sums); n > 0 {
		sum += a.sums[n-1].events
	}
	a.sums = append(a.sums, ackedSum{sum, now})
}

func (*acked) AttemptFailed(error)      {}
func (*acked) AccessesDropped(int, int) {}
func (*acked) ReachableChanged(bool)    {}

func (a *acked) total() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.sums); n > 0 {
		return a.sums[n-1].events
	}
	return 0
}

// look asks a standby, and returns how many of the events that were acknowledged before it was asked it has not folded, and
// how old the oldest of them is.
func (a *acked) look(ctx context.Context, standby *member) (t told, behind uint64, since time.Duration, err error) {
	now, total := time.Now(), a.total()
	if t, err = standby.tells(ctx); err != nil {
		return t, 0, 0, err
	}
	folded := t.Events - min(a.base, t.Events)
	if folded >= total {
		return t, 0, 0, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := sort.Search(len(a.sums), func(i int) bool { return a.sums[i].events > folded })
	return t, total - folded, now.Sub(a.sums[i].at), nil
}
