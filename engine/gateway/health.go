package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// health is what the gateway knows of one shared upstream. Its main job is to keep stale session IDs from an
// upstream that has restarted: some lock out an address that knocks with twenty of them.
//
// Time is cut in eras. A new one begins with every doubt whether the upstream is still the one that made the
// sessions: the start of this process, a failed connection, a lost session, a silence. A binding that has not proven
// itself in the current era is not used before somebody's ping has told whether the upstream still knows its
// sessions: one at a time asks, the others wait for the word. "Alive" holds for all of the era; so does "lost", after as
// many losses as the doubt demands. Safe for concurrent use.
type health struct {
	era    atomic.Uint64
	lastOK atomic.Int64 // Unix nanoseconds of the last answer, or of the doubt because there was none
	spoke  atomic.Int64 // of the last answer; zero = never
	down   atomic.Bool  // the last connection failed

	mu        sync.Mutex
	alive     uint64        // the newest era in which an older session was found alive
	condemned uint64        // bindings proven only before this era are lost
	cutoff    journal.Seq   // where in the journal that was; zero = not known yet
	first     journal.Seq   // where the first session was initialized again in the current era
	losses    int           // in the current era
	limit     int           // losses that condemn
	asking    chan struct{} // closed when the ping under way has its answer; nil = none is

	features [featureEnd]offer
}

// feature is something that not every upstream offers.
type feature uint8

const (
	featureGET       feature = iota // a GET stream
	featureStateless                // the protocol without sessions
	featureEnd
)

// offer is what is known of a feature. It holds until the upstream is found restarted, or its time is over.
type offer struct {
	known, offered bool
	since          uint64        // condemned, when it was found out
	until          time.Time     // zero = no end
	asking         chan struct{} // held by who is finding out
}

const (
	silence       = 2 * time.Second // after which the upstream may have been restarted unseen
	lossesDoubt   = 3               // without a sign of a restart, sessions may also have expired one by one
	lossesFailure = 1
)

// verdict is what a ping told about a session.
type verdict uint8

const (
	verdictNone  verdict = iota // nothing: it was refused for another reason
	verdictAlive                // the upstream knows the session
	verdictLost                 // it does not
	verdictDown                 // it could not be reached
)

func newHealth() *health {
	h := &health{limit: lossesDoubt}
	h.era.Store(1)
	h.lastOK.Store(time.Now().UnixNano())
	for f := range h.features {
		h.features[f].asking = make(chan struct{}, 1)
	}
	return h
}

// fresh reports whether a binding proven in that era may be used at once.
func (h *health) fresh(proven uint64) bool {
	return proven == h.era.Load() && time.Now().UnixNano()-h.lastOK.Load() < int64(silence)
}

// admit says whether a binding proven in an older era may be used: verdictAlive, verdictLost, or verdictDown when
// that could not be found out. It may wait for another's ping; it fails with ctx's cause alone.
func (h *health) admit(ctx context.Context, proven uint64, ping func(context.Context) verdict) (verdict, uint64, error) {
	for {
		h.mu.Lock()
		h.doubtSilence()
		era := h.era.Load()
		asking := h.asking
		switch {
		case proven < h.condemned:
			h.mu.Unlock()
			return verdictLost, era, nil
		case proven == era || h.alive == era:
			h.mu.Unlock()
			return verdictAlive, era, nil
		case asking == nil:
			h.asking = make(chan struct{})
			h.mu.Unlock()
			return h.learn(era, ping(ctx)), era, nil
		}
		h.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return verdictNone, era, context.Cause(ctx)
		}
	}
}

// doubtSilence begins an era if the upstream has not been heard of for long. h.mu is held.
func (h *health) doubtSilence() {
	now := time.Now().UnixNano()
	if now-h.lastOK.Load() >= int64(silence) && !h.down.Load() && h.asking == nil {
		h.lastOK.Store(now)
		h.doubt(lossesDoubt)
	}
}

// doubt begins an era. h.mu is held.
func (h *health) doubt(limit int) {
	h.era.Add(1)
	h.losses, h.limit, h.first = 0, limit, 0
}

// learn notes a ping's verdict and lets the next one ask.
func (h *health) learn(era uint64, v verdict) verdict {
	if v == verdictDown {
		h.failed()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.asking)
	h.asking = nil
	switch v {
	case verdictAlive:
		h.alive = max(h.alive, era)
	case verdictLost:
		h.lose()
	case verdictNone:
		v = verdictAlive // let the request itself find out
	case verdictDown:
	}
	return v
}

// lose counts a loss. h.mu is held.
func (h *health) lose() {
	if h.losses++; h.losses >= h.limit {
		h.condemned, h.cutoff = h.era.Load(), h.first
	}
}

// renewed notes where in the journal a session was claimed to be initialized again: what other replicas, or this one
// before it was restarted, have bound behind that is not lost with what was condemned.
func (h *health) renewed(at journal.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first == 0 {
		h.first = at
	}
	if h.condemned > 0 && h.cutoff == 0 {
		h.cutoff = at
	}
}

// boots counts the restarts of the upstream that were found out; it is the era of the last one.
func (h *health) boots() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.condemned
}

// boundAt returns the era that a binding claimed there counts as proven in; zero when nothing is known of it.
func (h *health) boundAt(at journal.Seq) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cutoff > 0 && at >= h.cutoff {
		return h.condemned
	}
	return 0
}

// forgotten reports whether a session bound there is known to be lost.
func (h *health) forgotten(at journal.Seq) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.condemned > 0 && (h.cutoff == 0 || at < h.cutoff)
}

// heard notes that the upstream has answered.
func (h *health) heard() {
	now := time.Now().UnixNano()
	h.lastOK.Store(now)
	h.spoke.Store(now)
	if h.down.Load() {
		h.down.Store(false)
	}
}

// failed notes that a connection could not be made or broke. The failures of one outage are one doubt.
func (h *health) failed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down.Swap(true) {
		h.doubt(lossesFailure)
	}
}

// lost notes that a request found a session lost whose binding was proven in that era.
func (h *health) lost(proven uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if proven == h.era.Load() {
		h.doubt(lossesDoubt)
	}
	h.lose()
}

// note remembers whether the upstream offers f.
func (h *health) note(f feature, offered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := &h.features[f]
	o.known, o.offered, o.since = true, offered, h.condemned
	if f == featureStateless {
		o.until = time.Now().Add(eraHolds)
	}
}

func (h *health) offers(f feature) (offered, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := &h.features[f]
	return o.offered, o.known && o.since == h.condemned && (o.until.IsZero() || time.Now().Before(o.until))
}

// ask reports whether the upstream offers f as far as is known. While nobody knows, one caller at a
// time gets through, and must call done when it has noted what it found out or given up.
func (h *health) ask(ctx context.Context, f feature) (offered bool, done func(), err error) {
	nothing := func() {}
	if offered, known := h.offers(f); known {
		return offered, nothing, nil
	}
	turn := h.features[f].asking
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return false, nothing, context.Cause(ctx)
	}
	if offered, known := h.offers(f); known {
		<-turn
		return offered, nothing, nil
	}
	return true, sync.OnceFunc(func() { <-turn }), nil
}
