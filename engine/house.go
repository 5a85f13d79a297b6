package engine

import (
	"context"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// tick is how often the engine looks around: a second, or less when its times are short.
func (e *Engine) tick() time.Duration {
	return max(min(time.Second, e.o.SessionTimeout/16, e.o.HibernateAfter/4), time.Millisecond)
}

// keepHouse touches leased sessions, hibernates idle ones and drops runtimes that the fold has disowned,
// until ctx ends. One goroutine and one ticker serve all sessions.
func (e *Engine) keepHouse(ctx context.Context) {
	tick := time.NewTicker(e.tick())
	defer tick.Stop()
	var seen journal.Seq
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := time.Now()
			e.touchLeased(now)
			e.hibernateIdle(now)
			seen = e.dropStale(ctx, seen)
		}
	}
}

// touchLeased posts touched for sessions that are leased and had no access event for a quarter of their timeout.
func (e *Engine) touchLeased(now time.Time) {
	at := journal.InstantOf(now)
	for _, en := range e.untouched(at) {
		en.touch(at)
		e.o.Appender.Post(journal.Event{
			Kind: journal.KindTouched, Ref: en.ref, At: at, Epoch: journal.Epoch(en.epoch.Load()),
		})
	}
}

func (e *Engine) untouched(at journal.Instant) (list []*entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leases == 0 {
		return nil
	}
	for _, en := range e.entries {
		held := en.leases > 0 && !en.ended && at.Sub(en.since) >= e.tick() // what is over in a moment is no stream
		if held && at.Sub(en.accessed(0)) >= en.timeout/4 {
			list = append(list, en)
		}
	}
	return list
}

func (e *Engine) hibernateIdle(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		en := e.idle.first()
		if en == nil || now.Sub(en.used) < e.o.HibernateAfter {
			return
		}
		e.hibernate(en)
	}
}

// dropStale drops the runtimes of sessions that have ended or were bound elsewhere, if anything was
// folded since seen.
func (e *Engine) dropStale(ctx context.Context, seen journal.Seq) journal.Seq {
	entries := e.snapshot()
	found := make([]replay.Session, len(entries))
	e.o.Table.View(func(st *replay.State) {
		if st.Seq() == seen {
			entries = nil
			return
		}
		seen = st.Seq()
		for i, en := range entries {
			found[i], _ = st.Session(en.ref)
		}
	})
	for i, en := range entries {
		if found[i].Ref.IsZero() {
			e.ended(en.ref)
		} else {
			en.see(found[i].Epoch)
			e.refresh(ctx, en, &found[i])
		}
	}
	return seen
}

// snapshot lists the entries.
func (e *Engine) snapshot() []*entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]*entry, 0, len(e.entries))
	for _, en := range e.entries {
		list = append(list, en)
	}
	return list
}
