package engine

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// SessionInfo is the seed's getSessionInfo, and what pages and metrics show.
type SessionInfo struct {
	Active    bool          // whether there is any session
	Sessions  int           // of the whole journal
	Live      int           // here
	Dormant   int           // Sessions without Live
	OldestAge time.Duration // since the oldest was created; may be some seconds old
	Limit     int
}

// SessionInfo counts sessions.
func (e *Engine) SessionInfo() SessionInfo {
	i := SessionInfo{Limit: e.o.MaxSessions, OldestAge: e.oldest.age(e.o.Table, time.Now())}
	e.o.Table.View(func(st *replay.State) { i.Sessions = st.Len() })
	e.mu.Lock()
	defer e.mu.Unlock()
	i.Live = e.live
	i.Active = i.Sessions > 0
	i.Dormant = max(i.Sessions-i.Live, 0)
	return i
}

// ageCache remembers when the oldest session was created: finding out takes a walk through all of them.
type ageCache struct {
	mu     sync.Mutex
	at     time.Time // of the last walk
	oldest journal.Instant
}

const ageEvery = 5 * time.Second

func (a *ageCache) age(t Table, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.at) >= ageEvery {
		a.at = now
		t.View(func(st *replay.State) { a.oldest = st.Oldest() })
	}
	if a.oldest == 0 {
		return 0
	}
	return max(journal.InstantOf(now).Sub(a.oldest), 0)
}

// refs lists all sessions in order. The state is held for the gathering alone, and by lookAll for a chunk
// at a time: a long look must not keep the fold, and with it every request, waiting.
func (e *Engine) refs() (refs []journal.Ref) {
	e.o.Table.View(func(st *replay.State) {
		refs = st.AppendRefs(make([]journal.Ref, 0, st.Len()))
	})
	slices.SortFunc(refs, func(a, b journal.Ref) int { return bytes.Compare(a[:], b[:]) })
	return refs
}

func (e *Engine) lookAll(refs []journal.Ref) []replay.Session {
	list := make([]replay.Session, 0, len(refs))
	e.o.Table.View(func(st *replay.State) {
		for _, ref := range refs {
			if s, ok := st.Session(ref); ok {
				list = append(list, s)
			}
		}
	})
	return list
}

// Listed is a session as List shows it.
type Listed struct {
	replay.Session
	Live   bool // has a runtime here
	Leases int  // requests and streams under way here
}

// List returns all sessions of the journal, by ref. Sessions that come and go meanwhile may be missing.
func (e *Engine) List() []Listed {
	refs := e.refs()
	list := make([]Listed, 0, len(refs))
	for chunk := range slices.Chunk(refs, sweepChunk) {
		for _, s := range e.lookAll(chunk) {
			list = append(list, Listed{Session: s})
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range list {
		if en := e.entries[list[i].Ref]; en != nil {
			list[i].Live, list[i].Leases = en.run != nil, en.leases
		}
	}
	return list
}
