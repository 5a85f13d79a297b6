package replay

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/dormouse-mcp/dormouse/journal"
)

// body is what the arena holds of a session, decoded. Its slices are parts of the arena.
//
// The stored form is the length of the rest (uvarint), then: the length of the sealed ID, times eight, plus the flags
// below (uvarint); the ID; the sealed context, with its length (uvarint) in front if anything follows it. If bound:
// epoch, sequence and index of the claim (uvarints), replica (text), upstream key (text, left out with
// keyOfID), sealed upstream session (text). If wished: log level (text), number of subscriptions (uvarint), texts. A
// text is its length (uvarint) and its bytes. Equal bodies have equal stored forms; snapshots hold them as they are.
type body struct {
	id, context []byte
	binding
	wishes

	stored uint64 // the flags that were read
}

// binding is who serves a session since its last accepted claim.
type binding struct {
	epoch       journal.Epoch // 0: it was never bound
	at          journal.Position
	replica     []byte
	upstream    []byte
	upstreamKey []byte
	keyOfID     bool // upstreamKey is the key of the ID, and empty here
}

// wishes is what a client asked for besides calls.
type wishes struct {
	logLevel      []byte
	subscriptions []string // sorted
}

const (
	flagBound = 1 << iota
	flagWished
	flagKeyOfID
	flagBits = 3
)

func (w *wishes) wished() bool { return len(w.logLevel) > 0 || len(w.subscriptions) > 0 }

func (b *body) flags() (f uint64) {
	if b.epoch > 0 {
		f |= flagBound
	}
	if b.wished() {
		f |= flagWished
	}
	if b.keyOfID {
		f |= flagKeyOfID
	}
	return f
}

// setKey sets the key of the upstream session.
func (b *binding) setKey(key, idKey journal.KeyID) {
	b.upstreamKey, b.keyOfID = nil, key != "" && key == idKey
	if !b.keyOfID {
		b.upstreamKey = []byte(key)
	}
}

// key returns the key of the upstream session.
func (b *binding) key(idKey journal.KeyID) journal.KeyID {
	if b.keyOfID {
		return idKey
	}
	return journal.KeyID(b.upstreamKey)
}

// size returns the length of the stored form, its own length aside.
func (b *body) size() int {
	f := b.flags()
	n := uvarintLen(uint64(len(b.id))<<flagBits|f) + len(b.id) + len(b.context)
	if f == 0 {
		return n
	}
	n += uvarintLen(uint64(len(b.context)))
	if f&flagBound > 0 {
		n += uvarintLen(uint64(b.epoch)) + uvarintLen(uint64(b.at.Seq)) + uvarintLen(uint64(b.at.Index)) +
			textLen(len(b.replica)) + textLen(len(b.upstream))
		if !b.keyOfID {
			n += textLen(len(b.upstreamKey))
		}
	}
	if f&flagWished > 0 {
		n += textLen(len(b.logLevel)) + uvarintLen(uint64(len(b.subscriptions)))
		for _, uri := range b.subscriptions {
			n += textLen(len(uri))
		}
	}
	return n
}

// append appends the stored form to dst. size is what size returns.
func (b *body) append(dst []byte, size int) []byte {
	f := b.flags()
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = binary.AppendUvarint(dst, uint64(len(b.id))<<flagBits|f)
	dst = append(dst, b.id...)
	if f == 0 {
		return append(dst, b.context...)
	}
	dst = appendText(dst, b.context)
	if f&flagBound > 0 {
		dst = binary.AppendUvarint(dst, uint64(b.epoch))
		dst = binary.AppendUvarint(dst, uint64(b.at.Seq))
		dst = binary.AppendUvarint(dst, uint64(b.at.Index))
		dst = appendText(dst, b.replica)
		if !b.keyOfID {
			dst = appendText(dst, b.upstreamKey)
		}
		dst = appendText(dst, b.upstream)
	}
	if f&flagWished > 0 {
		dst = appendText(dst, b.logLevel)
		dst = binary.AppendUvarint(dst, uint64(len(b.subscriptions)))
		for _, uri := range b.subscriptions {
			dst = appendText(dst, uri)
		}
	}
	return dst
}

func appendText[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func textLen(n int) int { return uvarintLen(uint64(n)) + n }

func uvarintLen(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// bodyBytes returns the stored form at the beginning of data, its length included. Nil if there is none.
func bodyBytes(data []byte) []byte {
	n, k := binary.Uvarint(data)
	if k <= 0 || n > uint64(len(data)-k) {
		return nil
	}
	return data[: k+int(n) : k+int(n)]
}

// decode reads a stored form. It reports whether it is one, and the only one of what it says; the forms in an arena
// are.
func (b *body) decode(stored []byte) bool {
	r := bodyReader{b: stored, ok: true}
	if size := r.number(); size != uint64(len(r.b)) {
		return false
	}
	f := r.number()
	b.id = r.take(f >> flagBits)
	f &= 1<<flagBits - 1
	if b.stored = f; f == 0 {
		b.context = r.b
		return r.ok
	}
	b.context = r.text()
	if f&flagBound > 0 {
		b.epoch, b.at.Seq, b.at.Index = journal.Epoch(r.number()), journal.Seq(r.number()), r.number32()
		b.replica = r.text()
		if b.keyOfID = f&flagKeyOfID > 0; !b.keyOfID {
			b.upstreamKey = r.text()
		}
		b.upstream = r.text()
	}
	if f&flagWished > 0 {
		b.logLevel = r.text()
		n := r.number()
		if n > uint64(len(r.b)) {
			return false
		}
		for range n {
			b.subscriptions = append(b.subscriptions, string(r.text()))
		}
	}
	return r.ok && len(r.b) == 0
}

// canonical reports whether stored, which b was decoded from, is the form that append gives for b. All that a form can
// do otherwise is to have flags that say nothing, or longer numbers.
func (b *body) canonical(stored []byte) bool {
	size := b.size()
	return uvarintLen(uint64(size))+size == len(stored) && b.stored == b.flags() && slices.IsSorted(b.subscriptions)
}

type bodyReader struct {
	b  []byte
	ok bool
}

func (r *bodyReader) number() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.ok, r.b = false, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *bodyReader) number32() uint32 {
	n := r.number()
	r.ok = r.ok && n <= math.MaxUint32
	return uint32(n)
}

func (r *bodyReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.ok, r.b = false, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *bodyReader) text() []byte { return r.take(r.number()) }
