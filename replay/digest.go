package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Digest returns a digest of everything in the state, for comparing replicas: two states that folded
// the same stream to the same sequence have the same one.
//
// It is the SHA-256 of these sections, each a name and a count followed by its entries in order: the
// head (journal, sequence, journal time, memory, root), the tree's frontier, the writers by ID, the sessions by
// ref with all their fields, the ended refs in the order in which they will be forgotten, the erased keys
// by tenant and key, and the counters. Numbers are 8 bytes big-endian, everything else is preceded by its
// length. The recent roots are left out: they say nothing that the frontier and the stream do not.
//
// It takes about a microsecond a session.
func (s *State) Digest() journal.Digest {
	d := digester{hash: sha256.New()}
	d.text("dormouse state v1")
	s.digestHead(&d)
	s.digestHistory(&d)
	d.section("sessions", s.Len())
	for session := range s.All() {
		d.session(&session)
	}
	d.section("ended", len(s.ended.remembered()))
	for _, e := range s.ended.remembered() {
		d.bytes(e.ref[:])
		d.number(uint64(e.at))
		d.number(uint64(e.forget))
	}
	s.digestErased(&d)
	s.digestCounters(&d)
	return d.sum()
}

func (s *State) digestHead(d *digester) {
	d.bytes(s.journal[:])
	d.number(uint64(s.seq))
	d.number(uint64(s.now))
	d.number(uint64(s.memory))
	d.number(uint64(s.ended.horizon))
	root := s.Root()
	d.bytes(root[:])
}

func (s *State) digestHistory(d *digester) {
	frontier := s.history.tree.Hashes()
	d.section("frontier", len(frontier))
	for _, h := range frontier {
		d.bytes(h)
	}
	d.section("writers", len(s.history.writers))
	d.number(s.history.forgot.writers)
	d.number(uint64(s.history.forgot.seq))
	d.number(uint64(s.history.forgot.seen))
	for _, id := range s.history.writerIDs() {
		w := s.history.writers[id]
		d.bytes(id[:])
		d.number(w.number)
		d.bytes(w.last[:])
		d.number(uint64(w.seq))
		d.number(uint64(w.seen))
		d.bool(w.stopped)
	}
}

func (s *State) digestErased(d *digester) {
	d.section("erased", len(s.erased))
	tenants := slices.SortedFunc(maps.Keys(s.erased), func(a, b journal.TenantID) int {
		return bytes.Compare(a[:], b[:])
	})
	for _, t := range tenants {
		keys := slices.Sorted(maps.Keys(s.erased[t]))
		d.bytes(t[:])
		d.number(uint64(len(keys)))
		for _, k := range keys {
			d.text(string(k))
		}
	}
}

func (s *State) digestCounters(d *digester) {
	c := &s.counters
	d.section("counters", len(c.refused))
	d.number(c.batches)
	d.number(c.events)
	d.number(c.unknown)
	for k, n := range c.accepted {
		if n > 0 {
			d.number(uint64(k))
			d.number(n)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(c.refused)) {
		d.text(string(why))
		d.number(c.refused[why])
	}
}

// digester hashes an unambiguous encoding of what it is given.
type digester struct {
	hash hash.Hash
	buf  []byte
}

func (d *digester) session(s *Session) {
	d.bytes(s.Ref[:])
	d.number(uint64(s.Source))
	d.position(s.Position)
	d.number(uint64(s.CreatedAt))
	d.number(uint64(s.LastAccess))
	d.number(uint64(s.Timeout))
	d.bytes(s.Tenant[:])
	d.text(s.Label)
	d.bytes(s.URLHash[:])
	d.text(string(s.Principal))
	d.bytes(s.ID)
	d.text(string(s.IDKey))
	d.bytes(s.Context)
	d.text(string(s.ContextKey))
	d.bytes(s.Fingerprint[:])
	d.bytes(s.Initialize)
	d.text(s.Protocol)
	d.text(s.LogLevel)
	d.number(uint64(len(s.Subscriptions)))
	for _, uri := range s.Subscriptions {
		d.text(uri)
	}
	d.number(uint64(s.Epoch))
	d.position(s.BoundAt)
	d.text(string(s.Replica))
	d.bytes(s.Upstream)
	d.text(string(s.UpstreamKey))
	d.number(s.Calls)
}

func (d *digester) section(name string, entries int) {
	d.text(name)
	d.number(uint64(entries))
}

func (d *digester) position(p journal.Position) {
	d.number(uint64(p.Seq))
	d.number(uint64(p.Index))
}

func (d *digester) number(n uint64) {
	d.buf = binary.BigEndian.AppendUint64(d.buf, n)
	d.spill()
}

func (d *digester) bool(b bool) {
	var n uint64
	if b {
		n = 1
	}
	d.number(n)
}

func (d *digester) bytes(b []byte) {
	d.number(uint64(len(b)))
	d.buf = append(d.buf, b...)
	d.spill()
}

func (d *digester) text(s string) {
	d.number(uint64(len(s)))
	d.buf = append(d.buf, s...)
	d.spill()
}

// spill hands what has gathered to the hash, in pieces that are worth the call.
func (d *digester) spill() {
	if len(d.buf) >= 4096 {
		d.hash.Write(d.buf)
		d.buf = d.buf[:0]
	}
}

func (d *digester) sum() (out journal.Digest) {
	d.hash.Write(d.buf)
	d.hash.Sum(out[:0])
	return out
}
