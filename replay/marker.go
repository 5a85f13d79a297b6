package replay

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
)

// MarkerOptions configures a Marker. Follower, Journal and at least one of Put must be set.
type MarkerOptions struct {
	Follower *Follower
	Journal  journal.ID
	Replica  journal.ReplicaID
	Losses   uint32      // number of the last accepted loss
	Last     journal.Seq // marked before; zero: nothing
	// Put store a mark, each in another place: all are tried, whatever becomes of the others.
	Put []func(context.Context, journal.Mark) error
	// Every is the time between two marks while something is folded; 0 means a second.
	Every  time.Duration
	Logger zerolog.Logger
}

// Marker writes this replica's high-water mark now and then, off the path of appends and folds: what is lost behind the
// newest mark may go unnoticed. Close it before the follower.
type Marker struct {
	o      MarkerOptions
	cancel context.CancelFunc
	wg     sync.WaitGroup

	last   journal.Seq // marked in every place
	failed bool        // of which the log was told
}

// StartMarker writes the first mark soon, and goes on until Close.
func StartMarker(o MarkerOptions) *Marker {
	if o.Every == 0 {
		o.Every = time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Marker{o: o, cancel: cancel, last: o.Last}
	m.wg.Go(func() { m.run(ctx) })
	return m
}

func (m *Marker) run(ctx context.Context) {
	tick := time.NewTicker(m.o.Every)
	defer tick.Stop()
	for {
		m.mark(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close writes the last mark, unless ctx ends before, and stops.
func (m *Marker) Close(ctx context.Context) {
	m.cancel()
	m.wg.Wait()
	m.mark(ctx)
}

// mark writes a mark if anything was folded since the last one.
func (m *Marker) mark(ctx context.Context) {
	if ctx.Err() != nil || m.o.Follower.Basis().Seq == m.last {
		return
	}
	mark := journal.Mark{Journal: m.o.Journal, When: journal.InstantOf(time.Now()), Replica: m.o.Replica, Losses: m.o.Losses}
	m.o.Follower.View(func(s *State) {
		mark.Basis, mark.Events, mark.Sessions = basisOf(s), s.counters.events, uint64(s.Len())
	})
	ok := true
	for _, put := range m.o.Put {
		err := put(ctx, mark)
		if err == nil {
			continue
		}
		ok = false
		if ctx.Err() == nil && !m.failed {
			m.failed = true
			m.o.Logger.Warn().Err(err).Msg("the high-water mark is not written; a loss of the journal's end could go unnoticed")
		}
	}
	if ok {
		m.last, m.failed = mark.Seq, false
	}
}
