package engine

import (
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
		a.at, a.oldest = now, 0
		t.View(func(st *replay.State) {
			for s := range st.All() {
				if a.oldest == 0 || s.CreatedAt < a.oldest {
					a.oldest = s.CreatedAt
				}
			}
		})
	}
	if a.oldest == 0 {
		return 0
	}
	return max(journal.InstantOf(now).Sub(a.oldest), 0)
}

// Listed is a session as List shows it.
type Listed struct {
	replay.Session
	Live   bool // has a runtime here
	Leases int  // requests and streams under way here
}

// List returns all sessions of the journal, by ref.
func (e *Engine) List() []Listed {
	var list []Listed
	e.o.Table.View(func(st *replay.State) {
		list = make([]Listed, 0, st.Len())
		for s := range st.All() {
			list = append(list, Listed{Session: s})
		}
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range list {
		if en := e.entries[list[i].Ref]; en != nil {
			list[i].Live, list[i].Leases = en.run != nil, en.leases
		}
	}
	return list
}
