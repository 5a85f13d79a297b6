package journal

import (
	"fmt"
	"math"
	"time"
	"unsafe"
)

// DecodeEvents reads the events of a batch from their metadata and sealed bytes, as AppendEvents and
// AppendSealed wrote them, and holds them against the header. It fails with ErrMalformed.
//
// The events share memory with meta and sealed, which must not change any more, and with one another:
// keeping one string or slice of an event keeps the whole batch, so copy what is kept for long.
func DecodeEvents(h *Header, meta, sealed []byte) (*Batch, error) {
	var a *Arena
	return a.DecodeEvents(h, meta, sealed)
}

// DecodeEvents is the function DecodeEvents, and makes the events in the arena.
func (a *Arena) DecodeEvents(h *Header, meta, sealed []byte) (*Batch, error) {
	b := &Batch{Header: *h}
	if err := b.decode(a, meta, sealed); err != nil {
		return nil, fmt.Errorf("batch %d of writer %s: %w", h.Number, h.Writer, err)
	}
	return b, nil
}

func (b *Batch) decode(a *Arena, meta, sealed []byte) error {
	switch count := uint64(b.Count); {
	case len(meta)+len(sealed) > MaxPayload:
		return fmt.Errorf("%d bytes of events: %w", len(meta)+len(sealed), ErrMalformed)
	case count == 0, count > MaxBatchEvents, count > uint64(len(meta)/minEvent):
		return fmt.Errorf("%d events in %d bytes: %w", count, len(meta), ErrMalformed)
	}
	d := decoder{
		wireReader: wireReader{b: meta, s: shared(meta), end: len(meta)},
		arena:      a,
		batch:      b,
		sealed:     sealed,
	}
	b.Events = a.newEvents(int(b.Count))[:0]
	for d.more() {
		d.next()
	}
	switch {
	case d.err != nil:
		return fmt.Errorf("event %d: %w", len(b.Events), d.err)
	case len(b.Events) != int(b.Count):
		return fmt.Errorf("%d events, the header says %d: %w", len(b.Events), b.Count, ErrMalformed)
	case len(d.sealed) > 0:
		return fmt.Errorf("%d sealed bytes belong to no event: %w", len(d.sealed), ErrMalformed)
	}
	return nil
}

// shared returns b as a string, without a copy: the caller has promised that b does not change any more.
func shared(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // a copy of all metadata is a tenth of the time
}

// decoder reads the events of one batch.
type decoder struct {
	wireReader

	arena  *Arena
	batch  *Batch
	sealed []byte    // what no event has taken yet
	slab   []Created // made for many at a time; those not used yet
	slabs  int
	sizes  sealedSizes
	times  times
}

// sealedSizes are the lengths of one event's sealed fields, in the order in which their bytes stand.
type sealedSizes struct {
	id, context, changed, upstream, later uint64
}

func (d *decoder) next() {
	tag := d.number()
	if tag != eventsEvent {
		d.skip(tag)
		return
	}
	n := len(d.batch.Events)
	if n == cap(d.batch.Events) {
		d.fail("more events than the header says")
		return
	}
	events := d.batch.Events[:n+1]
	outer := d.enter()
	d.event(&events[n])
	d.leave(outer)
	if d.err == nil {
		d.batch.Events = events
	}
}

func (d *decoder) event(e *Event) {
	var kind uint64
	d.sizes, d.times.alike = sealedSizes{}, false
	e.At = d.batch.First
	for d.more() {
		switch tag := d.number(); tag {
		case eventKind:
			kind = d.number()
		case eventRef:
			d.fixed(e.Ref[:])
		case eventAt:
			e.At = d.batch.First + Instant(d.zigzag())
		case eventEpoch:
			e.Epoch = Epoch(d.number())
		case eventCall:
			e.Call.Number = d.number()
		case eventMethod:
			e.Call.Method = d.text()
		case eventTool:
			e.Call.Tool = d.text()
		case eventOutcome:
			e.Call.Outcome = Outcome(d.small())
		case eventDuration:
			e.Call.Duration = time.Duration(d.count(math.MaxInt64/1000)) * time.Microsecond
		default:
			d.eventPart(e, tag)
		}
	}
	d.finish(e, kind)
}

// eventPart reads the fields that are not those of an access.
func (d *decoder) eventPart(e *Event, tag uint64) {
	switch tag {
	case eventCreated:
		fresh := e.Created == nil
		if fresh {
			e.Created = d.newCreated()
		}
		d.created(e.Created, fresh)
	case eventChanged:
		if e.Changed == nil {
			e.Changed = new(Changed)
		}
		d.changed(e.Changed)
	case eventBound:
		if e.Bound == nil {
			e.Bound = new(Bound)
		}
		d.bound(e.Bound)
	case eventBasis:
		e.Basis = Instant(d.number())
	case eventReason:
		e.Reason = Reason(d.small())
	case eventNote:
		if e.Note == nil {
			e.Note = new(Note)
		}
		d.note(e.Note)
	case eventLaterSealed:
		d.sizes.later = d.number()
	default:
		d.skip(tag)
	}
}

// finish hands out the sealed bytes and checks the event as a whole.
func (d *decoder) finish(e *Event, kind uint64) {
	if e.Created != nil {
		e.Created.ID = d.take(d.sizes.id)
		e.Created.Context = d.take(d.sizes.context)
		if d.times.alike {
			d.times.set(e)
		}
	}
	if e.Changed != nil {
		e.Changed.Context = d.take(d.sizes.changed)
	}
	if e.Bound != nil {
		e.Bound.Upstream = d.take(d.sizes.upstream)
	}
	d.take(d.sizes.later)
	switch {
	case d.err != nil:
	case e.At < d.batch.First || e.At > d.batch.Last:
		d.fail("time outside of the header's range")
	case kind == 0:
		d.fail("no kind")
	case kind > uint64(LastKind):
		*e = Event{Ref: e.Ref, At: e.At, Epoch: e.Epoch}
		d.batch.Unknown++
	default:
		e.Kind = Kind(kind)
		if !e.fits() {
			d.fail("kind without its part")
		}
	}
}

func (d *decoder) take(n uint64) Sealed {
	if n == 0 {
		return nil
	}
	if n > uint64(len(d.sealed)) {
		d.fail("sealed bytes missing")
		return nil
	}
	s := d.sealed[:n:n]
	d.sealed = d.sealed[n:]
	return Sealed(s)
}

// newCreated saves an allocation an event in batches that create many sessions.
func (d *decoder) newCreated() *Created {
	if len(d.slab) == 0 {
		d.slabs = min(max(4*d.slabs, 1), int(d.batch.Count)-len(d.batch.Events))
		d.slab = d.arena.newCreated(d.slabs)
	}
	c := &d.slab[0]
	d.slab = d.slab[1:]
	return c
}
