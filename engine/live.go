package engine

import (
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// entry is what this engine holds of a session that is live or leased here. It says nothing about the
// session that the fold would know. Engine.mu guards all fields but the atomic ones.
type entry struct {
	ref     journal.Ref
	session *Session
	timeout time.Duration
	epoch   atomic.Uint64 // the newest that was seen here; accesses are stamped with it
	posted  atomic.Int64  // journal.Instant of the newest access event that was posted or seen folded here

	leases  int
	since   journal.Instant // when it was leased, after nobody had leased it
	run     *run
	wake    *wake
	closing chan struct{} // until it is closed, an earlier runtime is being closed
	ended   bool
	used    time.Time // when the last lease was released
	idle    link      // its place in Engine.idle
	marks   marks
}

// never, as the number of a run's users, is what no release brings to zero: it is closed already.
const never = -1 << 30

// run is one runtime.
type run struct {
	rt      Runtime
	session *Session       // the handle that the runtime has; knows the epoch that it serves
	context journal.Sealed // the context that it was made with
	users   int            // leases that were given rt
	gone    bool           // detached: closes when users is zero
}

// lease takes the session's entry, made if there is none.
func (e *Engine) lease(s *replay.Session, id journal.SessionID) (*Lease, error) {
	l := &Lease{e: e}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return nil, ErrNotReady
	}
	e.leases++
	en := e.entries[s.Ref]
	if en == nil {
		en = newEntry(&Session{e: e, id: id, ref: s.Ref}, s.Timeout)
		e.entries[s.Ref] = en
	}
	en.see(s.Epoch)
	en.touch(en.accessed(s.LastAccess))
	e.take(l, en)
	return l, nil
}

func newEntry(s *Session, timeout time.Duration) *entry {
	return &entry{ref: s.ref, session: s, timeout: timeout}
}

// see notes an epoch; older ones change nothing.
func (en *entry) see(epoch journal.Epoch) {
	for {
		old := en.epoch.Load()
		if uint64(epoch) <= old || en.epoch.CompareAndSwap(old, uint64(epoch)) {
			return
		}
	}
}

// touch notes that an access was posted.
func (en *entry) touch(at journal.Instant) { en.posted.Store(int64(at)) }

// accessed returns the newest access that the fold or this engine knows of.
func (en *entry) accessed(folded journal.Instant) journal.Instant {
	return max(folded, journal.Instant(en.posted.Load()))
}

// take gives l the entry. e.mu is held.
func (e *Engine) take(l *Lease, en *entry) {
	l.entry = en
	if en.leases++; en.leases == 1 {
		en.since = journal.InstantOf(time.Now())
	}
	e.idle.remove(en)
}

// drop takes the entry from l. e.mu is held.
func (e *Engine) drop(l *Lease, now time.Time) {
	en := l.entry
	e.unuse(l)
	en.leases--
	e.leave()
	if en.leases == 0 {
		e.rest(en, now)
	}
}

// rest puts an entry that nobody leases where it belongs. e.mu is held.
func (e *Engine) rest(en *entry, now time.Time) {
	if en.run != nil && !en.ended {
		en.used = now
		e.idle.remove(en)
		e.idle.push(en)
		e.trim()
		return
	}
	e.forget(en)
}

// forget removes an entry that holds nothing. e.mu is held.
func (e *Engine) forget(en *entry) {
	if en.leases == 0 && en.run == nil && en.wake == nil && en.closing == nil && e.entries[en.ref] == en {
		delete(e.entries, en.ref)
	}
}

// use gives l the entry's runtime. e.mu is held.
func (e *Engine) use(l *Lease) Runtime {
	if l.run != l.entry.run {
		e.unuse(l)
		l.run = l.entry.run
		l.run.users++
	}
	return l.run.rt
}

func (e *Engine) unuse(l *Lease) {
	r := l.run
	if r == nil {
		return
	}
	l.run = nil
	if r.users--; r.gone && r.users == 0 {
		delete(e.gone, r)
		e.close(l.entry, r)
	}
}

// unlive detaches the entry's runtime, if there is one, and closes it: at once if nobody uses it or now
// is set, else when the last user has released it. e.mu is held.
func (e *Engine) unlive(en *entry, now bool) {
	r := en.run
	if r == nil {
		return
	}
	en.run = nil
	e.live--
	e.idle.remove(en)
	if now || r.users == 0 {
		r.users = never
		e.close(en, r)
		return
	}
	r.gone = true
	e.gone[r] = en
}

// close closes a runtime in the background. Until it is done, the entry stays and no wake of it begins,
// so that no session ever has two runtimes that might share a resource. e.mu is held.
func (e *Engine) close(en *entry, r *run) {
	before, done := en.closing, make(chan struct{})
	en.closing = done
	e.wg.Go(func() {
		if before != nil {
			<-before
		}
		if err := guard(r.rt.Close); err != nil {
			e.log.Warn().Err(err).Stringer("session", en.ref).Msg("closing a runtime")
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		close(done)
		if en.closing == done {
			en.closing = nil
			e.forget(en)
		}
	})
}

// trim hibernates the least recently used idle sessions while there are too many live ones. e.mu is held.
func (e *Engine) trim() {
	for e.live > e.o.MaxLive {
		en := e.idle.first()
		if en == nil {
			return // all of them are leased; the next release comes back here
		}
		e.hibernate(en)
	}
}

// hibernate closes the runtime of an idle session. e.mu is held.
func (e *Engine) hibernate(en *entry) {
	e.unlive(en, true)
	e.o.Observer.SessionHibernated()
	e.log.Debug().Stringer("session", en.ref).Msg("session hibernated")
}

// end notes that the session is no more: whoever leases it, its runtime is closed now. e.mu is held.
func (e *Engine) end(en *entry) {
	en.ended = true
	if en.wake != nil {
		en.wake.cancel()
	}
	e.unlive(en, true)
	e.forget(en)
}
