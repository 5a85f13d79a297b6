package snapshot

import (
	"encoding/binary"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// listRows is how many entries of a list go into one chunk.
const listRows = 8000

func appendEnded(meta []byte, list []replay.EndedRef) []byte {
	meta = binary.AppendUvarint(append(meta, kindEnded), uint64(len(list)))
	var last replay.EndedRef
	for i := range list {
		e := &list[i]
		meta = append(meta, e.Ref[:]...)
		meta = appendZigzag(meta, int64(e.At-last.At))
		meta = appendZigzag(meta, int64(e.Forget-e.At))
		last = *e
	}
	return meta
}

func (r *reader) endedRefs() []replay.EndedRef {
	list := make([]replay.EndedRef, r.count(18))
	var last journal.Instant
	for i := range list {
		e := &list[i]
		r.fixed(e.Ref[:])
		e.At = last + journal.Instant(r.zigzag())
		e.Forget = e.At + journal.Instant(r.zigzag())
		last = e.At
	}
	return list
}

func appendWriters(meta []byte, list []replay.WriterEnd) []byte {
	meta = binary.AppendUvarint(append(meta, kindWriters), uint64(len(list)))
	for i := range list {
		w := &list[i]
		meta = append(append(meta, w.Writer[:]...), w.Last[:]...)
		meta = binary.AppendUvarint(meta, w.Number)
		meta = binary.AppendUvarint(meta, uint64(w.Seq))
		meta = appendZigzag(meta, int64(w.Seen))
		meta = append(meta, flag(w.Stopped))
	}
	return meta
}

func (r *reader) writerEnds() []replay.WriterEnd {
	list := make([]replay.WriterEnd, r.count(52))
	for i := range list {
		w := &list[i]
		r.fixed(w.Writer[:])
		r.fixed(w.Last[:])
		w.Number, w.Seq = r.number(), journal.Seq(r.number())
		w.Seen = journal.Instant(r.zigzag())
		w.Stopped = r.below(2) == 1
	}
	return list
}

func appendErased(meta []byte, list []replay.ErasedKey) []byte {
	meta = binary.AppendUvarint(append(meta, kindErased), uint64(len(list)))
	for i := range list {
		meta = appendText(append(meta, list[i].Tenant[:]...), string(list[i].Key))
	}
	return meta
}

func (r *reader) erasedKeys() []replay.ErasedKey {
	list := make([]replay.ErasedKey, r.count(17))
	for i := range list {
		r.fixed(list[i].Tenant[:])
		list[i].Key = journal.KeyID(r.text())
	}
	return list
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
