package snapshot

import (
	"math"
	"runtime"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// Chunks of version 1 held sealed bytes row by row, and everything else in columns.

// formerSessions reads the columns one after the other, and then makes the sessions row by row.
func (c *content) formerSessions(r, raw *reader, l *replay.Loader, digests bool) {
	rows := r.count(8) // each has a byte in each of nine columns
	commons, texts, wishes := r.count(50), r.count(1), r.count(3)
	common := make([]replay.Session, commons)
	for i := range common {
		common[i] = r.commonRow()
	}
	text := make([]string, texts)
	for i := range text {
		text[i] = r.text()
	}
	list := r.columns(rows, commons)
	for i := range list {
		if list[i].Epoch > 0 {
			r.binding(&list[i], text)
		}
	}
	r.wishes(list, wishes)
	refs := &reader{b: raw.bytes(16 * rows)}
	if r.err != nil || raw.err != nil {
		return
	}
	c.rows = rows
	if l != nil {
		c.block = l.NewBlock(common, rows, nil)
	}
	for i := range list {
		if i%yieldEvery == 0 {
			runtime.Gosched()
		}
		if c.formerRow(&list[i], common, refs, raw, digests); raw.err != nil {
			return
		}
	}
}

// row is a session of which the sealed parts are not read yet.
type row struct {
	replay.Session

	common, id, context, upstream int
}

func (r *reader) columns(rows, commons int) []row {
	list := make([]row, rows)
	column := func(set func(x, before *row)) {
		var none row
		before := &none
		for i := range list {
			set(&list[i], before)
			before = &list[i]
		}
	}
	column(func(x, _ *row) { x.common = r.below(commons) })
	column(func(x, before *row) { x.Position.Seq = before.Position.Seq + journal.Seq(r.number()) })
	column(func(x, before *row) {
		x.Position.Index = uint32(r.below(math.MaxUint32))
		if x.Position.Compare(before.Position) <= 0 && !before.Position.IsZero() {
			r.fail("sessions not in order")
		}
	})
	column(func(x, before *row) { x.CreatedAt = before.CreatedAt + journal.Instant(r.zigzag()) })
	column(func(x, _ *row) { x.LastAccess = x.CreatedAt + journal.Instant(r.zigzag()) })
	column(func(x, _ *row) { x.Calls = r.number() })
	column(func(x, _ *row) { x.Epoch = journal.Epoch(r.number()) })
	column(func(x, _ *row) { x.id = r.below(math.MaxInt32) })
	column(func(x, _ *row) { x.context = r.below(math.MaxInt32) })
	return list
}

func (r *reader) binding(x *row, text []string) {
	x.BoundAt.Seq = x.Position.Seq + journal.Seq(r.zigzag())
	x.BoundAt.Index = uint32(r.below(math.MaxUint32))
	replica, key := r.below(len(text)), r.below(len(text))
	x.upstream = r.below(math.MaxInt32)
	if r.err == nil {
		x.Replica, x.UpstreamKey = journal.ReplicaID(text[replica]), journal.KeyID(text[key])
	}
}

func (r *reader) wishes(list []row, n int) {
	at := 0
	for i := range n {
		step := r.below(len(list) + 1)
		if at += step; at >= len(list) || i > 0 && step == 0 {
			r.fail("a session out of range")
			return
		}
		x := &list[at]
		x.LogLevel = r.text()
		for range r.count(1) {
			x.Subscriptions = append(x.Subscriptions, r.text())
		}
	}
}

func (c *content) formerRow(x *row, common []replay.Session, refs, raw *reader, digests bool) {
	refs.fixed(x.Ref[:])
	sealed := raw.bytes(x.id + x.context)
	if x.upstream > 0 {
		x.Upstream = raw.bytes(x.upstream)
	}
	if raw.err != nil {
		return
	}
	s := x.full(&common[x.common], sealed)
	if c.block != nil {
		c.block.Session(x.common, &s)
	}
	if c.first.IsZero() {
		c.first = x.Position
	}
	c.last = x.Position
	if digests {
		d := s.FormerDigest()
		c.digests = append(c.digests, d[:]...)
	}
}

// full is the session with what it has in common with others.
func (x *row) full(common *replay.Session, sealed []byte) replay.Session {
	s := *common
	s.Ref, s.Position, s.CreatedAt, s.LastAccess, s.Epoch, s.Calls = x.Ref, x.Position, x.CreatedAt, x.LastAccess, x.Epoch, x.Calls
	s.ID, s.Context, s.Upstream, s.UpstreamKey = sealed[:x.id], sealed[x.id:], x.Upstream, x.UpstreamKey
	s.BoundAt, s.Replica, s.LogLevel, s.Subscriptions = x.BoundAt, x.Replica, x.LogLevel, x.Subscriptions
	return s
}
