package snapshot

import (
	"encoding/binary"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// The kinds of chunks.
const (
	kindSessions = iota + 1
	kindEnded
	kindWriters
	kindErased
)

// The columns of a chunk of sessions, in their order.
const (
	colCommon = iota
	colSeq
	colIndex
	colCreated
	colAccessed
	colCalls
	columnCount
)

// columns are the sessions of one chunk, field by field: neighbors in a column resemble each other. What does not
// compress, refs and bodies, stands aside.
type columns struct {
	rows    int
	column  [columnCount][]byte
	commons []byte
	numbers numbers
	last    replay.Row
}

func (c *columns) reset() {
	c.rows, c.commons, c.last = 0, c.commons[:0], replay.Row{}
	c.numbers.reset()
	for i := range c.column {
		c.column[i] = c.column[i][:0]
	}
}

func (c *columns) add(s *replay.Row, common *common, p *parts) {
	n, first := c.numbers.of(common)
	if first {
		c.commons = append(c.commons, common.row...)
	}
	x := &c.column
	x[colCommon] = binary.AppendUvarint(x[colCommon], uint64(n))
	x[colSeq] = binary.AppendUvarint(x[colSeq], uint64(s.Position.Seq-c.last.Position.Seq))
	x[colIndex] = binary.AppendUvarint(x[colIndex], uint64(s.Position.Index))
	x[colCreated] = appendZigzag(x[colCreated], int64(s.CreatedAt-c.last.CreatedAt))
	x[colAccessed] = appendZigzag(x[colAccessed], int64(s.LastAccess-s.CreatedAt))
	x[colCalls] = binary.AppendUvarint(x[colCalls], s.Calls)
	p.refs = append(p.refs, s.Ref[:]...)
	p.bodies = append(p.bodies, s.Body...)
	c.last.Position, c.last.CreatedAt = s.Position, s.CreatedAt
	c.rows++
}

// append appends the metadata of the chunk.
func (c *columns) append(meta []byte) []byte {
	meta = append(meta, kindSessions)
	meta = binary.AppendUvarint(meta, uint64(c.rows))
	meta = binary.AppendUvarint(meta, uint64(c.numbers.count))
	meta = append(meta, c.commons...)
	for i := range c.column {
		meta = appendText(meta, c.column[i])
	}
	return meta
}

// common is what sessions have in common. The numbers depend on values alone: how the state shares them does not
// show.
type common struct {
	id     int // from 1 on; equal ones have the same
	row    []byte
	digest journal.Digest
}

// commons are all of a state's, by the numbers of its rows.
type commons struct {
	list    []common
	byValue map[journal.Digest]int
}

func newCommons(f *replay.Frozen) *commons {
	return &commons{list: make([]common, f.Commons()), byValue: map[journal.Digest]int{}}
}

// of returns those of a row. Only one goroutine may ask for a number first.
func (c *commons) of(f *replay.Frozen, number int) *common {
	x := &c.list[number]
	if x.id == 0 {
		s := f.Common(number)
		x.row, x.digest = appendCommon(nil, &s), s.CommonDigest()
		if x.id = c.byValue[x.digest]; x.id == 0 {
			x.id = len(c.byValue) + 1
			c.byValue[x.digest] = x.id
		}
	}
	return x
}

// numbers numbers the commons of one chunk.
type numbers struct {
	numbers []int32 // by id, plus one
	used    []int
	count   int
}

func (n *numbers) reset() {
	for _, id := range n.used {
		n.numbers[id] = 0
	}
	n.used, n.count = n.used[:0], 0
}

// of returns the number, and whether it is new.
func (n *numbers) of(c *common) (number int, first bool) {
	if c.id >= len(n.numbers) {
		n.numbers = append(n.numbers, make([]int32, c.id+1)...)
	}
	if at := n.numbers[c.id]; at > 0 {
		return int(at - 1), false
	}
	n.count++
	n.numbers[c.id] = int32(n.count)
	n.used = append(n.used, c.id)
	return n.count - 1, true
}

func appendCommon(b []byte, s *replay.Session) []byte {
	b = append(b, byte(s.Source))
	b = binary.AppendUvarint(b, uint64(s.Timeout.Milliseconds()))
	b = append(append(append(b, s.Tenant[:]...), s.URLHash[:]...), s.Fingerprint[:]...)
	b = appendText(b, s.Label)
	b = appendText(b, string(s.Principal))
	b = appendText(b, string(s.IDKey))
	b = appendText(b, string(s.ContextKey))
	b = appendText(b, s.Protocol)
	return appendText(b, s.Initialize)
}

func (r *reader) commonRow() (s replay.Session) {
	if b := r.bytes(1); len(b) == 1 {
		s.Source = journal.Source(b[0])
	}
	s.Timeout = time.Duration(r.below(int(replay.MaxTimeout.Milliseconds())+1)) * time.Millisecond
	r.fixed(s.Tenant[:])
	r.fixed(s.URLHash[:])
	r.fixed(s.Fingerprint[:])
	s.Label = r.text()
	s.Principal = journal.Principal(r.text())
	s.IDKey = journal.KeyID(r.text())
	s.ContextKey = journal.KeyID(r.text())
	s.Protocol = r.text()
	s.Initialize = r.bytes(r.count(1))
	return s
}
