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

// columns are the sessions of one chunk, field by field: neighbors in a column resemble each other. What does not
// compress (refs and sealed bytes) goes into raw, which is not compressed.
type columns struct {
	rows, wishes int

	common, seq, index, created, accessed, calls, epoch, id, context []byte

	commonRows, textRows, boundRows, wishRows []byte

	refs, sealed []byte

	shared   commons
	textOf   map[string]uint64
	last     replay.Session
	wishedAt int
}

func (c *columns) reset() {
	if c.textOf == nil {
		c.textOf = map[string]uint64{}
	}
	clear(c.textOf)
	c.shared.reset()
	c.rows, c.wishes, c.wishedAt = 0, 0, 0
	for _, b := range c.all() {
		*b = (*b)[:0]
	}
	c.refs, c.sealed, c.last = c.refs[:0], c.sealed[:0], replay.Session{}
}

// all are the columns of the metadata, in their order.
func (c *columns) all() [13]*[]byte {
	return [...]*[]byte{
		&c.commonRows, &c.textRows, &c.common, &c.seq, &c.index, &c.created, &c.accessed, &c.calls, &c.epoch,
		&c.id, &c.context, &c.boundRows, &c.wishRows,
	}
}

func (c *columns) add(s *replay.Session, a replay.Alike) {
	n, added := c.shared.number(s, a)
	c.commonRows = append(c.commonRows, added...)
	c.common = binary.AppendUvarint(c.common, n)
	c.seq = binary.AppendUvarint(c.seq, uint64(s.Position.Seq-c.last.Position.Seq))
	c.index = binary.AppendUvarint(c.index, uint64(s.Position.Index))
	c.created = appendZigzag(c.created, int64(s.CreatedAt-c.last.CreatedAt))
	c.accessed = appendZigzag(c.accessed, int64(s.LastAccess-s.CreatedAt))
	c.calls = binary.AppendUvarint(c.calls, s.Calls)
	c.epoch = binary.AppendUvarint(c.epoch, uint64(s.Epoch))
	c.id = binary.AppendUvarint(c.id, uint64(len(s.ID)))
	c.context = binary.AppendUvarint(c.context, uint64(len(s.Context)))
	c.refs = append(c.refs, s.Ref[:]...)
	c.sealed = append(append(append(c.sealed, s.ID...), s.Context...), s.Upstream...)
	if s.Epoch > 0 {
		c.bind(s)
	}
	if s.LogLevel != "" || len(s.Subscriptions) > 0 {
		c.wish(s)
	}
	c.last.Position, c.last.CreatedAt = s.Position, s.CreatedAt
	c.rows++
}

func (c *columns) bind(s *replay.Session) {
	c.boundRows = appendZigzag(c.boundRows, int64(s.BoundAt.Seq-s.Position.Seq))
	c.boundRows = binary.AppendUvarint(c.boundRows, uint64(s.BoundAt.Index))
	c.boundRows = binary.AppendUvarint(c.boundRows, c.text(string(s.Replica)))
	c.boundRows = binary.AppendUvarint(c.boundRows, c.text(string(s.UpstreamKey)))
	c.boundRows = binary.AppendUvarint(c.boundRows, uint64(len(s.Upstream)))
}

func (c *columns) wish(s *replay.Session) {
	c.wishes++
	c.wishRows = binary.AppendUvarint(c.wishRows, uint64(c.rows-c.wishedAt))
	c.wishedAt = c.rows
	c.wishRows = appendText(c.wishRows, s.LogLevel)
	c.wishRows = binary.AppendUvarint(c.wishRows, uint64(len(s.Subscriptions)))
	for _, uri := range s.Subscriptions {
		c.wishRows = appendText(c.wishRows, uri)
	}
}

// text returns the number of a text that many sessions share.
func (c *columns) text(s string) uint64 {
	n, ok := c.textOf[s]
	if !ok {
		n = uint64(len(c.textOf))
		c.textOf[s] = n
		c.textRows = appendText(c.textRows, s)
	}
	return n
}

// commons numbers what sessions have in common. The numbers depend on values alone: how the state shares them does not
// show.
type commons struct {
	alike   map[replay.Alike]uint64
	byValue map[string]uint64
	row     []byte
}

func (c *commons) reset() {
	if c.alike == nil {
		c.alike, c.byValue = map[replay.Alike]uint64{}, map[string]uint64{}
	}
	clear(c.alike)
	clear(c.byValue)
}

// number returns the number of what the session has in common with others, and its row if it is the first one.
func (c *commons) number(s *replay.Session, a replay.Alike) (n uint64, added []byte) {
	if n, ok := c.alike[a]; ok {
		return n, nil
	}
	c.row = appendCommon(c.row[:0], s)
	n, ok := c.byValue[string(c.row)]
	if !ok {
		n, added = uint64(len(c.byValue)), c.row
		c.byValue[string(c.row)] = n
	}
	c.alike[a] = n
	return n, added
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

// append appends the metadata of the chunk to meta and its raw part to raw.
func (c *columns) append(meta, raw []byte) ([]byte, []byte) {
	meta = append(meta, kindSessions)
	for _, n := range [...]int{c.rows, len(c.shared.byValue), len(c.textOf), c.wishes} {
		meta = binary.AppendUvarint(meta, uint64(n))
	}
	for _, b := range c.all() {
		meta = append(meta, *b...)
	}
	return meta, append(append(raw, c.refs...), c.sealed...)
}
