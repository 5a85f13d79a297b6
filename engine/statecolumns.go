package engine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The columns of a frame, in their order.
const (
	colFlags = iota
	colCreated
	colAccessed
	colIDs
	colURLs
	colKeys
	colInstances
	colSessions
	colMetadata
	colExtra // left out of frames in which nobody has any
	stateColumnCount
)

// What the flags say of a session.
const (
	flagUUID     = 1 << iota // its ID is a UUID in its usual text form, whose 16 bytes stand behind the columns
	flagInstance             // the instance ID is the session ID
	flagSession              // the context's session ID is the session ID
	flagMetadata             // the context has metadata
	flagExtra                // the context has extra fields
)

// stateColumns are some sessions, field by field: neighbors in a column resemble each other.
type stateColumns struct {
	rows    int
	columns [stateColumnCount][]byte
	uuids   []byte
	created journal.Instant
}

func (c *stateColumns) bytes() (n int) {
	for i := range c.columns {
		n += len(c.columns[i])
	}
	return n + len(c.uuids)
}

func (c *stateColumns) reset() {
	for i := range c.columns {
		clear(c.columns[i]) // they held credentials
		c.columns[i] = c.columns[i][:0]
	}
	c.rows, c.created, c.uuids = 0, 0, c.uuids[:0]
}

func (c *stateColumns) add(s *SessionState) {
	var flags byte
	id, ic := s.SessionID.Reveal(), &s.Context
	if u, err := uuid.Parse(id); err == nil && u.String() == id {
		flags |= flagUUID
		c.uuids = append(c.uuids, u[:]...)
	} else {
		c.text(colIDs, id)
	}
	if ic.InstanceID == id {
		flags |= flagInstance
	} else {
		c.text(colInstances, ic.InstanceID)
	}
	if ic.SessionID == id {
		flags |= flagSession
	} else {
		c.text(colSessions, ic.SessionID)
	}
	if len(ic.Metadata) > 0 {
		flags |= flagMetadata
		c.text(colMetadata, string(ic.Metadata))
	}
	if len(ic.Extra) > 0 {
		flags |= flagExtra
		c.text(colExtra, string(extraText(ic.Extra)))
	}
	c.text(colURLs, ic.N8nAPIURL)
	c.text(colKeys, ic.N8nAPIKey)
	created, accessed := journal.InstantOf(s.Metadata.CreatedAt), journal.InstantOf(s.Metadata.LastAccess)
	c.number(colCreated, int64(created-c.created))
	c.number(colAccessed, int64(accessed-created))
	c.columns[colFlags] = append(c.columns[colFlags], flags)
	c.created = created
	c.rows++
}

func (c *stateColumns) text(column int, s string) {
	c.columns[column] = append(binary.AppendUvarint(c.columns[column], uint64(len(s))), s...)
}

func (c *stateColumns) number(column int, v int64) {
	c.columns[column] = binary.AppendVarint(c.columns[column], v)
}

// append appends the rows' number and the columns, each with its length in front.
func (c *stateColumns) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.rows))
	columns := c.columns[:]
	if len(c.columns[colExtra]) == 0 {
		columns = columns[:colExtra]
	}
	for _, column := range columns {
		b = appendSized(b, column)
	}
	return b
}

func appendSized(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// stateRows reads the columns of a frame row by row. Once something is wrong, err says so, and rows are empty.
type stateRows struct {
	left    int
	columns [stateColumnCount][]byte
	uuids   []byte
	created journal.Instant
	err     error
}

func newStateRows(columns, uuids []byte) *stateRows {
	r := &stateRows{uuids: uuids}
	rows := r.uvarint(&columns)
	if rows > maxRows || rows > uint64(len(columns)) {
		r.fail("its number of sessions")
		return r
	}
	for i := range r.columns {
		if i == colExtra && len(columns) == 0 {
			break
		}
		r.columns[i] = r.sized(&columns)
	}
	if r.left = int(rows); r.err != nil || len(columns) > 0 || len(r.columns[colFlags]) != r.left {
		r.fail("its columns")
	}
	return r
}

func (r *stateRows) fail(what string) {
	r.left = 0
	if r.err == nil {
		r.err = fmt.Errorf("session file: %w: a frame: %s", journal.ErrMalformed, what)
	}
}

// next returns the next session, if there is one.
func (r *stateRows) next() (s SessionState, ok bool) {
	if r.left == 0 {
		for i := range r.columns {
			if r.err == nil && len(r.columns[i]) > 0 && r.columns[colFlags] != nil {
				r.fail("bytes left over")
			}
		}
		if r.err == nil && len(r.uuids) > 0 {
			r.fail("bytes left over")
		}
		return s, false
	}
	r.left--
	flags := r.columns[colFlags][0]
	r.columns[colFlags] = r.columns[colFlags][1:]
	if flags&flagUUID > 0 {
		s.SessionID = r.uuid()
	} else {
		s.SessionID = journal.SessionID(r.text(colIDs))
	}
	id, ic := s.SessionID.Reveal(), &s.Context
	ic.InstanceID, ic.SessionID = id, id
	if flags&flagInstance == 0 {
		ic.InstanceID = r.text(colInstances)
	}
	if flags&flagSession == 0 {
		ic.SessionID = r.text(colSessions)
	}
	if flags&flagMetadata > 0 {
		ic.Metadata = json.RawMessage(r.text(colMetadata))
	}
	if flags&flagExtra > 0 {
		r.extra(ic)
	}
	ic.N8nAPIURL, ic.N8nAPIKey = r.text(colURLs), r.text(colKeys)
	r.created += journal.Instant(r.number(colCreated))
	s.Metadata = SessionMetadata{CreatedAt: r.created.Time(), LastAccess: (r.created + journal.Instant(r.number(colAccessed))).Time()}
	if flags >= 2*flagExtra || len(ic.Metadata) > 0 && !json.Valid(ic.Metadata) {
		r.fail("a session")
	}
	if year := s.Metadata.LastAccess.Year(); year < 0 || year > 9999 || s.Metadata.CreatedAt.Year() > 9999 || s.Metadata.CreatedAt.Year() < 0 {
		r.fail("a time") // that JSON cannot say
	}
	return s, r.err == nil
}

// extraText is an object of extra fields, which were checked before.
func extraText(extra map[string]json.RawMessage) []byte {
	text, _ := appendMembers(nil, extra)
	return text
}

func (r *stateRows) extra(ic *InstanceContext) {
	text := r.sized(&r.columns[colExtra])
	if json.Unmarshal(text, &ic.Extra) != nil || len(ic.Extra) == 0 || checkExtra(ic.Extra) != nil {
		ic.Extra = nil
		r.fail("extra fields")
	}
}

func (r *stateRows) uuid() journal.SessionID {
	if len(r.uuids) < len(uuid.UUID{}) {
		r.fail("a session ID")
		return ""
	}
	u := uuid.UUID(r.uuids)
	r.uuids = r.uuids[len(u):]
	return journal.SessionID(u.String())
}

func (r *stateRows) text(column int) string { return string(r.sized(&r.columns[column])) }

func (r *stateRows) number(column int) int64 {
	v, n := binary.Varint(r.columns[column])
	if n <= 0 {
		r.fail("a time")
		return 0
	}
	r.columns[column] = r.columns[column][n:]
	return v
}

func (r *stateRows) uvarint(b *[]byte) uint64 {
	v, n := binary.Uvarint(*b)
	if n <= 0 {
		r.fail("a number")
		return 0
	}
	*b = (*b)[n:]
	return v
}

func (r *stateRows) sized(b *[]byte) []byte {
	n := r.uvarint(b)
	if n > uint64(len(*b)) {
		r.fail("a length")
		return nil
	}
	part := (*b)[:n:n]
	*b = (*b)[n:]
	return part
}
