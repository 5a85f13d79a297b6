package replay

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// FoldVersion numbers the rules of the fold and what a state consists of. A release whose fold differs has a higher
// one; it reads the snapshots of the version before.
const FoldVersion = 1

// Ledger is everything in a state but its sessions: with them, all that a snapshot has to keep. Its slices are in
// an order that depends on the state alone.
type Ledger struct {
	Journal  journal.ID
	Seq      journal.Seq
	Now      journal.Instant // journal time
	Root     journal.Root
	Sessions int
	Memory   time.Duration   // the longest timeout seen
	Horizon  journal.Instant // the latest end among the refs that are forgotten
	Size     uint64          // leaves of the history tree
	Frontier []journal.Digest
	Writers  []WriterEnd // by ID
	Forgot   ForgottenWriters
	Ended    []EndedRef     // in the order in which they will be forgotten
	Erased   []ErasedKey    // by tenant, then by key
	Losses   []journal.Loss // accepted ones, by number
	Stats    Stats
}

// WriterEnd is the end of one writer's chain.
type WriterEnd struct {
	Writer  journal.WriterID
	Number  uint64
	Last    journal.Digest
	Seq     journal.Seq     // of its last batch
	Seen    journal.Instant // journal time of it
	Stopped bool            // it said that it would write no more
}

// ForgottenWriters is what is left of the writers whose chains are forgotten: how many, and the last place and time
// of any of them.
type ForgottenWriters struct {
	Writers uint64
	Seq     journal.Seq
	Seen    journal.Instant
}

// EndedRef is the ref of a session that has ended.
type EndedRef struct {
	Ref    journal.Ref
	At     journal.Instant
	Forget journal.Instant
}

// ErasedKey is a tenant's data key that was erased.
type ErasedKey struct {
	Tenant journal.TenantID
	Key    journal.KeyID
}

// ledger copies what the fold changes in place, and shares the rest.
func (s *State) ledger() Ledger {
	l := Ledger{
		Journal: s.journal, Seq: s.seq, Now: s.now, Root: s.Root(), Sessions: s.Len(), Memory: s.memory,
		Horizon: s.ended.horizon, Size: s.history.tree.End(),
		Forgot: ForgottenWriters{s.history.forgot.writers, s.history.forgot.seq, s.history.forgot.seen},
		Ended:  slices.Clip(s.ended.remembered()), // appended to, and otherwise replaced
		Erased: s.erasedKeys(), Losses: s.losses.list, Stats: s.Stats(),
	}
	for _, h := range s.history.tree.Hashes() {
		l.Frontier = append(l.Frontier, journal.Digest(h))
	}
	for _, id := range s.history.writerIDs() {
		w := s.history.writers[id]
		l.Writers = append(l.Writers, WriterEnd{Writer: id, Number: w.number, Last: w.last, Seq: w.seq, Seen: w.seen, Stopped: w.stopped})
	}
	return l
}

func (s *State) erasedKeys() (list []ErasedKey) {
	tenants := slices.SortedFunc(maps.Keys(s.erased), func(a, b journal.TenantID) int {
		return bytes.Compare(a[:], b[:])
	})
	for _, t := range tenants {
		for _, k := range slices.Sorted(maps.Keys(s.erased[t])) {
			list = append(list, ErasedKey{Tenant: t, Key: k})
		}
	}
	return list
}

// Digest returns what State.Digest returns for a state of this ledger and sessions. Those are given by their own
// digests, see [Row.Digest], in the order of their positions, one after the other.
func (l *Ledger) Digest(sessions []byte) journal.Digest {
	return l.digest("dormouse state v3", sessions)
}

// FormerDigest is Digest as it was in snapshots of version 1, for sessions given by [Session.FormerDigest].
func (l *Ledger) FormerDigest(sessions []byte) journal.Digest {
	return l.digest("dormouse state v2", sessions)
}

func (l *Ledger) digest(form string, sessions []byte) journal.Digest {
	d := digester{hash: sha256.New()}
	d.text(form)
	d.head(l)
	d.history(l)
	d.section("sessions", l.Sessions)
	d.bytes(sessions)
	d.section("ended", len(l.Ended))
	for i := range l.Ended {
		e := &l.Ended[i]
		d.bytes(e.Ref[:])
		d.number(uint64(e.At))
		d.number(uint64(e.Forget))
	}
	d.section("erased", len(l.Erased))
	for i := range l.Erased {
		d.bytes(l.Erased[i].Tenant[:])
		d.text(string(l.Erased[i].Key))
	}
	d.stats(&l.Stats)
	return d.sum()
}
