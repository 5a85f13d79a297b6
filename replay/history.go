package replay

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/dormouse-mcp/dormouse/journal"
)

// WriterMemory is how long, in journal time, the chain of a writer that fell silent is remembered. A
// batch that it writes later is refused as [RefusedWriter]: a replica that may idle for longer must write
// something meanwhile. One that said it stopped is remembered for [StoppedMemory].
const (
	WriterMemory  = 90 * 24 * time.Hour
	StoppedMemory = 7 * 24 * time.Hour
)

// rootWindow is how many of the last roots are kept to check bases against: 2 MiB. An older basis is not
// checked.
const rootWindow = 1 << 16

// history checks that what is folded is what was written: the tree over all batches and every recent
// writer's chain.
type history struct {
	tree    *compact.Range
	root    journal.Root
	recent  []journal.Root // of sequence s at s % rootWindow
	since   journal.Seq    // the first sequence whose root is in recent
	writers map[journal.WriterID]*writer
	forgot  forgot
}

// writer is the end of one writer's chain.
type writer struct {
	number  uint64
	last    journal.Digest
	seq     journal.Seq // of its last batch
	seen    journal.Instant
	stopped bool
}

// forgot is what is left of the writers that were forgotten: how many, and where the last batch of any of
// them stood.
type forgot struct {
	writers uint64
	seq     journal.Seq
	seen    journal.Instant
}

// may reports whether the batch may be one of theirs, put into the stream again. Whoever starts anew has
// folded what they wrote, or at least has a clock that is far beyond them.
func (f *forgot) may(b *journal.Header) bool {
	return f.writers > 0 && b.Basis.Seq <= f.seq && b.First <= f.seen.Add(StoppedMemory/2)
}

func newHistory() history {
	f := &compact.RangeFactory{Hash: hashChildren}
	return history{tree: f.NewEmptyRange(0), writers: make(map[journal.WriterID]*writer)}
}

// hashChildren is RFC 6962's, without the allocations of a hash.Hash.
func hashChildren(left, right []byte) []byte {
	var buf [1 + 2*sha256.Size]byte
	buf[0] = rfc6962.RFC6962NodeHashPrefix
	copy(buf[1:], left)
	copy(buf[1+sha256.Size:], right)
	sum := sha256.Sum256(buf[:])
	return sum[:]
}

func hashLeaf(d journal.Digest) []byte {
	var buf [1 + sha256.Size]byte
	buf[0] = rfc6962.RFC6962LeafHashPrefix
	copy(buf[1:], d[:])
	sum := sha256.Sum256(buf[:])
	return sum[:]
}

// append takes in the digest of the message at seq and remembers the root up to it.
func (h *history) append(seq journal.Seq, d journal.Digest) error {
	if err := h.tree.Append(hashLeaf(d), nil); err != nil {
		return fmt.Errorf("history tree: %w", err)
	}
	root, err := h.tree.GetRootHash(nil)
	if err != nil {
		return fmt.Errorf("history tree: %w", err)
	}
	copy(h.root[:], root)
	if len(h.recent) == 0 {
		h.since = seq
	}
	if len(h.recent) < rootWindow {
		h.recent = append(h.recent, h.root)
		return nil
	}
	h.recent[(seq-h.since)%rootWindow] = h.root
	return nil
}

// pass gives the lost messages behind after, up to to, their places.
func (h *history) pass(after, to journal.Seq) error {
	lost := hashLeaf(journal.LostDigest())
	if to-after > rootWindow {
		h.recent, h.since = h.recent[:0], 0
	}
	for seq := after + 1; seq <= to; seq++ {
		if to-seq < rootWindow {
			if err := h.append(seq, journal.LostDigest()); err != nil {
				return err
			}
		} else if err := h.tree.Append(lost, nil); err != nil {
			return fmt.Errorf("history tree: %w", err)
		}
	}
	return nil
}

// rootAt returns the root up to seq if it is still known; last is the last sequence folded.
func (h *history) rootAt(seq, last journal.Seq) (journal.Root, bool) {
	if seq < h.since || seq > last || last-seq >= journal.Seq(len(h.recent)) {
		return journal.Root{}, false
	}
	return h.recent[(seq-h.since)%rootWindow], true
}

// verdict is what the chains say of a batch.
type verdict uint8

const (
	known     verdict = iota + 1 // it was taken in before
	next                         // the writer's next one
	repeated                     // its number was used before
	forgotten                    // from a writer whose chain is forgotten, or may be
)

// wrong says what does not hold of a chain, if what is not empty.
type wrong struct {
	what  string
	since journal.Seq // the first message that may be the wrong one
	until journal.Seq // the last one
	whole bool        // the batch itself is right
}

// judge checks a batch against its writer's chain; lost says what was lost since its last batch.
func (h *history) judge(b *journal.Header, digest journal.Digest, lost interruption) (verdict, wrong) {
	w := h.writers[b.Writer]
	switch {
	case b.Number == 0:
		return 0, bad("batches are numbered from 1")
	case w == nil:
		return h.first(b, lost)
	case b.Number == w.number && digest != w.last:
		return 0, bad("the writer wrote two different batches of this number")
	case b.Number <= w.number:
		return repeated, wrong{}
	case lost == changed, lost == jumped && b.Number > w.number+1:
		return next, wrong{}
	case b.Number > w.number+1:
		return 0, wrong{fmt.Sprintf("the writer's batches %d to %d are missing", w.number+1, b.Number-1), w.seq + 1, math.MaxUint64, true}
	case b.Previous != w.last:
		return 0, wrong{"the writer's previous batch is not the one that was folded here", w.seq, w.seq, true}
	}
	return next, wrong{}
}

// first judges the first batch of a writer that is seen.
func (h *history) first(b *journal.Header, lost interruption) (verdict, wrong) {
	switch {
	case b.Number > 1 && h.forgot.writers > 0, h.forgot.may(b):
		return forgotten, wrong{}
	case b.Number > 1 && lost == 0:
		return 0, wrong{fmt.Sprintf("the writer's batches before number %d are missing", b.Number), 1, math.MaxUint64, true}
	case b.Number == 1 && b.Previous != (journal.Digest{}):
		return 0, bad("a writer's first batch names a previous one")
	}
	return next, wrong{}
}

func bad(what string) wrong { return wrong{what: what, since: math.MaxUint64, until: math.MaxUint64} }

// record notes the writer's newest batch.
func (h *history) record(b *journal.Header, digest journal.Digest, seq journal.Seq, now journal.Instant, stopped bool) {
	w := h.writers[b.Writer]
	if w == nil {
		w = new(writer)
		h.writers[b.Writer] = w
	}
	w.number, w.last, w.seq, w.seen, w.stopped = b.Number, digest, seq, now, stopped
}

func stops(b *journal.Batch) bool {
	n := len(b.Events)
	return n > 0 && b.Events[n-1].Kind == journal.KindReplicaStopped
}

// forget drops the writers that have been silent for too long.
func (h *history) forget(now journal.Instant) {
	for id, w := range h.writers {
		memory := WriterMemory
		if w.stopped {
			memory = StoppedMemory
		}
		if w.seen.Add(memory) <= now {
			delete(h.writers, id)
			h.forgot.add(w)
		}
	}
}

func (f *forgot) add(w *writer) {
	f.writers++
	f.seq = max(f.seq, w.seq)
	f.seen = max(f.seen, w.seen)
}

// writerIDs returns the remembered writers in order.
func (h *history) writerIDs() []journal.WriterID {
	ids := make([]journal.WriterID, 0, len(h.writers))
	for id := range h.writers {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b journal.WriterID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

func compareRefs(a, b journal.Ref) int { return bytes.Compare(a[:], b[:]) }
