package journal

import (
	"bytes"
	"encoding/binary"
)

const (
	slotBits = 10
	probes   = 4 // how many slots a tenant may be in
)

// EventPacker writes the metadata of batches in the shorter form of version 2: a created event that is like one before
// it, as those of one tenant are, names that one and repeats nothing of it. The zero value is ready; it keeps nothing
// of a batch. Not safe for concurrent use.
type EventPacker struct {
	first [1 << slotBits]uint16 // by tenant: the index of the first created event, plus one
	dense int                   // of the last Append
}

// Dense returns how many bytes at the end of what Append appended last are created events that are like others. Their
// refs are most of it, so that compressing it saves little and takes longest.
func (p *EventPacker) Dense() int { return p.dense }

// Append is AppendEvents, and reports whether a created event was written as being like another one: then the header
// must be Alike.
func (p *EventPacker) Append(dst []byte, first Instant, events []Event) (meta []byte, sealed int, alike bool, err error) {
	clear(p.first[:])
	w := eventWriter{first: first, packer: p}
	meta, sealed, err = w.append(dst, events)
	p.dense = len(meta) - w.varied
	return meta, sealed, w.alike, err
}

// like returns how far before events[i] stands the one that it is like; zero if there is none. It remembers events[i]
// for those that follow.
func (p *EventPacker) like(events []Event, i int) int {
	c := events[i].Created
	if events[i].Kind != KindCreated || c == nil || i >= 1<<16-1 {
		return 0
	}
	home := binary.LittleEndian.Uint64(c.Tenant[:]) * 0x9e3779b97f4a7c15 >> (64 - slotBits)
	free := home // taken from another one if no slot is free
	for n := range uint64(probes) {
		slot := (home + n) % (1 << slotBits)
		at := int(p.first[slot])
		if at == 0 {
			free = slot
			break
		}
		if c.like(events[at-1].Created) {
			return i - (at - 1)
		}
	}
	p.first[free] = uint16(i + 1)
	return 0
}

// like reports whether all is equal that a created event leaves out when it names another one.
func (c *Created) like(o *Created) bool {
	return c.Source == o.Source && len(c.ID) == len(o.ID) && len(c.Context) == len(o.Context) &&
		c.Tenant == o.Tenant && c.Label == o.Label && c.Key == o.Key && c.Fingerprint == o.Fingerprint &&
		c.URLHash == o.URLHash && c.Principal == o.Principal && bytes.Equal(c.Initialize, o.Initialize) &&
		c.Protocol == o.Protocol && c.Timeout == o.Timeout
}

// appendAlike appends the created part of an event that is like the one that stands that far before it.
func appendAlike(b []byte, e *Event, distance int) []byte {
	b, start := openMessage(b, eventCreated)
	b = appendNumber(b, createdLike, uint64(distance))
	b = appendFar(b, createdAfter, int64(e.Created.CreatedAt-e.At))
	b = appendFar(b, createdAccessAfter, int64(e.Created.LastAccess-e.Created.CreatedAt))
	return closeMessage(b, start)
}

// appendFar appends an sint64 whose tag takes two bytes.
func appendFar(b []byte, tag uint64, v int64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, tag), uint64(v)<<1^uint64(v>>63))
}

// alike reads what appendAlike wrote, behind its first tag.
func (d *decoder) alike(c *Created) {
	distance := d.number()
	n := uint64(len(d.batch.Events))
	if !d.batch.Alike || distance == 0 || distance > n || d.batch.Events[n-distance].Created == nil {
		d.fail("like an event that is none")
		return
	}
	*c = *d.batch.Events[n-distance].Created
	d.sizes.id, d.sizes.context = uint64(len(c.ID)), uint64(len(c.Context))
	d.times = times{alike: true}
	for d.more() {
		switch tag := d.number(); {
		case tag == createdAfter:
			d.times.created = d.zigzag()
		case tag == createdAccessAfter:
			d.times.access = d.zigzag()
		case tag <= createdLike|wireFixed32:
			d.fail("a field in an event that is like another one")
		default:
			d.skip(tag)
		}
	}
}

// times are those of a created event that is like another one, as distances from the event's own and from one another.
type times struct {
	alike           bool
	created, access int64
}

func (t *times) set(e *Event) {
	e.Created.CreatedAt = e.At + Instant(t.created)
	e.Created.LastAccess = e.Created.CreatedAt + Instant(t.access)
}
