package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/dormouse-mcp/dormouse/journal"
)

// cursor is what the ID of a server-sent event says: enough for any replica to go on with the stream, or to
// settle the request that the stream was the answer to.
type cursor struct {
	epoch    journal.Epoch
	request  []byte // raw JSON-RPC ID of the client's request; empty on the GET stream
	upstream []byte // the upstream's own event ID; empty when it gave none
	opening  uint64 // a number of the one connection that the GET stream had; zero on other streams
}

const (
	cursorVersion = 1   // without opening
	cursorOpening = 2   // with it, behind the epoch
	cursorMAC     = 12  // bytes
	maxCursor     = 600 // bytes of request ID and upstream cursor together; longer ones get no event ID
	maxEventID    = 4 * (maxCursor + 48 + cursorMAC) / 3
)

// cursorCodec writes and reads cursors, authenticated and bound to one session. Safe for concurrent use.
type cursorCodec struct {
	key  []byte
	pool sync.Pool // of hash.Hash
}

func (c *cursorCodec) mac(dst []byte, ref journal.Ref, payload []byte) []byte {
	h, _ := c.pool.Get().(hash.Hash)
	if h == nil {
		h = hmac.New(sha256.New, c.key)
	}
	defer c.pool.Put(h)
	h.Reset()
	h.Write(ref[:])
	h.Write(payload)
	var sum [sha256.Size]byte
	return append(dst, h.Sum(sum[:0])[:cursorMAC]...)
}

// encode returns the event ID, or nil when the cursor is too long for one.
func (c *cursorCodec) encode(ref journal.Ref, at cursor) []byte {
	if len(at.request)+len(at.upstream) > maxCursor {
		return nil
	}
	var space [maxCursor + 48]byte
	b := append(space[:0], cursorVersion)
	b = binary.AppendUvarint(b, uint64(at.epoch))
	if at.opening != 0 {
		b[0] = cursorOpening
		b = binary.AppendUvarint(b, at.opening)
	}
	b = binary.AppendUvarint(b, uint64(len(at.request)))
	b = append(b, at.request...)
	b = append(b, at.upstream...)
	b = c.mac(b, ref, b)
	return base64.RawURLEncoding.AppendEncode(nil, b)
}

// decode reads an event ID that encode wrote for this session; false: it is not one.
func (c *cursorCodec) decode(ref journal.Ref, id string) (at cursor, ok bool) {
	if len(id) > maxEventID {
		return at, false
	}
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(b) < cursorMAC+3 || b[0] != cursorVersion && b[0] != cursorOpening {
		return at, false
	}
	payload, sum := b[:len(b)-cursorMAC], b[len(b)-cursorMAC:]
	if !hmac.Equal(sum, c.mac(nil, ref, payload)) {
		return at, false
	}
	rest := payload[1:]
	epoch, n := binary.Uvarint(rest)
	if n <= 0 {
		return at, false
	}
	rest = rest[n:]
	if b[0] == cursorOpening {
		if at.opening, n = binary.Uvarint(rest); n <= 0 {
			return at, false
		}
		rest = rest[n:]
	}
	size, n := binary.Uvarint(rest)
	if n <= 0 || size > uint64(len(rest)-n) {
		return at, false
	}
	rest = rest[n:]
	at.epoch, at.request, at.upstream = journal.Epoch(epoch), rest[:size], rest[size:]
	return at, true
}
