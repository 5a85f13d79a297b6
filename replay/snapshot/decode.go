package snapshot

import (
	"math"
	"runtime"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// parts are what a chunk consists of.
type parts struct {
	meta   []byte // columns, or a list
	refs   []byte // 16 bytes a session
	bodies []byte // as the table holds them; in version 1, the refs and what was sealed
}

// content is what one chunk holds: one of its fields.
type content struct {
	kind    byte
	block   *replay.Block // of the sessions, if they are loaded
	rows    int
	first   journal.Position // of the first session
	last    journal.Position
	digests []byte // of each session, if they are wanted
	ended   []replay.EndedRef
	writers []replay.WriterEnd
	erased  []replay.ErasedKey
}

// decode reads a chunk of that version. Its sessions go to l and keep the bodies, unless l is nil.
func decode(version byte, p *parts, l *replay.Loader, digests bool) (c content, err error) {
	r := &reader{b: p.meta}
	if b := r.bytes(1); len(b) == 1 {
		c.kind = b[0]
	}
	switch {
	case c.kind == kindSessions && version == 1:
		rest := &reader{b: p.bodies}
		c.formerSessions(r, rest, l, digests)
		if err := rest.end(); err != nil {
			return c, err
		}
		return c, r.end()
	case c.kind == kindSessions:
		c.sessions(r, p, l, digests)
		return c, r.end()
	case c.kind == kindEnded:
		c.ended = r.endedRefs()
	case c.kind == kindWriters:
		c.writers = r.writerEnds()
	case c.kind == kindErased:
		c.erased = r.erasedKeys()
	default:
		r.fail("an unknown kind of chunk")
	}
	if len(p.refs)+len(p.bodies) > 0 {
		r.fail("bytes left over")
	}
	return c, r.end()
}

// sessions makes the sessions row by row: a cursor runs through each column.
func (c *content) sessions(r *reader, p *parts, l *replay.Loader, digests bool) {
	rows, commons := r.count(1), r.count(50)
	common, digest := make([]replay.Session, commons), make([]journal.Digest, commons)
	for i := range common {
		common[i] = r.commonRow()
		if digests {
			digest[i] = common[i].CommonDigest()
		}
	}
	var column [columnCount]reader
	for i := range column {
		column[i].b = r.bytes(r.count(1))
	}
	if rows > len(p.refs)/len(journal.Ref{}) || len(p.refs)%len(journal.Ref{}) != 0 {
		r.fail("refs that are not as many as sessions")
	}
	if r.err != nil {
		return
	}
	c.rows = rows
	if l != nil {
		c.block = l.NewBlock(common, rows, p.bodies)
	}
	refs, bodies := reader{b: p.refs}, reader{b: p.bodies}
	var row replay.Row
	for i := range rows {
		if i%yieldEvery == 0 {
			runtime.Gosched()
		}
		before := row.Position
		row.Common = column[colCommon].below(commons)
		row.Position.Seq += journal.Seq(column[colSeq].number())
		row.Position.Index = uint32(column[colIndex].below(math.MaxUint32))
		row.CreatedAt += journal.Instant(column[colCreated].zigzag())
		row.LastAccess = row.CreatedAt + journal.Instant(column[colAccessed].zigzag())
		row.Calls = column[colCalls].number()
		refs.fixed(row.Ref[:])
		row.Body = bodies.body()
		if i > 0 && row.Position.Compare(before) <= 0 {
			r.fail("sessions not in order")
		}
		if i == 0 {
			c.first = row.Position
		}
		if err := firstError(column[:], &refs, &bodies, r); err != nil {
			r.err = err
			return
		}
		if c.block != nil {
			c.block.Row(&row)
		}
		if digests {
			d := row.Digest(&digest[row.Common])
			c.digests = append(c.digests, d[:]...)
		}
	}
	c.last = row.Position
	for i := range column {
		r.both(column[i].end())
	}
	r.both(refs.end())
	r.both(bodies.end())
}

func firstError(columns []reader, others ...*reader) error {
	for i := range columns {
		if columns[i].err != nil {
			return columns[i].err
		}
	}
	for _, r := range others {
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// both makes err the reader's, if it has none.
func (r *reader) both(err error) {
	if r.err == nil {
		r.err = err
	}
}

// body returns the next session's body with its length in front.
func (r *reader) body() []byte {
	all := r.b
	n := r.count(1)
	r.bytes(n)
	if r.err != nil {
		return nil
	}
	n = len(all) - len(r.b)
	return all[:n:n]
}
