package journal

import "fmt"

// AppendEvents appends the metadata of the events to dst, a Protobuf message Events, and says how many
// sealed bytes belong to it: those that AppendSealed appends. Times are stored as distances from first.
// It fails with ErrMalformed when an event has no wire form (see MeasureEvent), and with ErrTooLarge
// beyond MaxBatchEvents or MaxPayload.
func AppendEvents(dst []byte, first Instant, events []Event) (meta []byte, sealed int, err error) {
	w := eventWriter{first: first}
	return w.append(dst, events)
}

// eventWriter writes the metadata of one batch.
type eventWriter struct {
	first  Instant
	packer *EventPacker // nil: in the form of version 1
	alike  bool         // an event was written as being like another one
	varied int          // where the last event ends that was not
}

func (w *eventWriter) append(dst []byte, events []Event) (meta []byte, sealed int, err error) {
	if len(events) > MaxBatchEvents {
		return dst, 0, fmt.Errorf("%d events: %w", len(events), ErrTooLarge)
	}
	meta = dst
	for i := range events {
		e := &events[i]
		like := 0
		if w.packer != nil {
			like = w.packer.like(events, i)
		}
		if err := e.check(like == 0); err != nil {
			return dst, 0, fmt.Errorf("event %d: %w", i, err)
		}
		w.alike = w.alike || like > 0
		meta = appendEvent(meta, e, w.first, like)
		if like == 0 {
			w.varied = len(meta)
		}
		sealed += e.sealedSize()
		if n := len(meta) - len(dst) + sealed; n > MaxPayload {
			return dst, 0, fmt.Errorf("event %d: %d bytes of events: %w", i, n, ErrTooLarge)
		}
	}
	return meta, sealed, nil
}

// AppendSealed appends the sealed bytes of the events to dst, in the order in which DecodeEvents finds them.
func AppendSealed(dst []byte, events []Event) []byte {
	for i := range events {
		e := &events[i]
		if c := e.Created; c != nil {
			dst = append(append(dst, c.ID...), c.Context...)
		}
		if c := e.Changed; c != nil {
			dst = append(dst, c.Context...)
		}
		if b := e.Bound; b != nil {
			dst = append(dst, b.Upstream...)
		}
	}
	return dst
}

func (e *Event) sealedSize() (n int) {
	if c := e.Created; c != nil {
		n += len(c.ID) + len(c.Context)
	}
	if c := e.Changed; c != nil {
		n += len(c.Context)
	}
	if b := e.Bound; b != nil {
		n += len(b.Upstream)
	}
	return n
}

// MeasureEvent returns the most bytes that the event takes in a batch, before compression. It fails with
// ErrMalformed when the event has no wire form (an unknown kind, a kind without its part, text that is
// not UTF-8, a negative duration), so that one bad event never spoils the batch of others, and with
// ErrTooLarge when it takes more than MaxBatchBytes.
func MeasureEvent(e *Event) (int, error) {
	if err := e.check(true); err != nil {
		return 0, err
	}
	var buf [1024]byte
	n := len(appendEvent(buf[:0], e, e.At, 0)) + e.sealedSize()
	// The distance to the batch's first event, and what it adds to the length, are not known yet.
	n += 1 + 10 + 1
	if n > MaxBatchBytes {
		return n, fmt.Errorf("%d bytes: %w", n, ErrTooLarge)
	}
	return n, nil
}

// appendEvent appends an event; like says how far before it stands the created event that it is like, if there is one.
func appendEvent(b []byte, e *Event, first Instant, like int) []byte {
	b, start := openMessage(b, eventsEvent)
	b = appendNumber(b, eventKind, uint64(e.Kind))
	b = append16(b, eventRef, (*[16]byte)(&e.Ref))
	b = appendZigzag(b, eventAt, int64(e.At-first))
	b = appendNumber(b, eventEpoch, uint64(e.Epoch))
	b = appendNumber(b, eventCall, e.Call.Number)
	b = appendText(b, eventMethod, e.Call.Method)
	b = appendText(b, eventTool, e.Call.Tool)
	b = appendNumber(b, eventOutcome, uint64(e.Call.Outcome))
	b = appendNumber(b, eventDuration, uint64(e.Call.Duration.Microseconds()))
	switch {
	case like > 0:
		b = appendAlike(b, e, like)
	case e.Created != nil:
		b = appendCreated(b, e.Created)
	}
	if e.Changed != nil {
		b = appendChanged(b, e.Changed)
	}
	if e.Bound != nil {
		b = appendBound(b, e.Bound)
	}
	b = appendNumber(b, eventBasis, uint64(e.Basis))
	b = appendNumber(b, eventReason, uint64(e.Reason))
	if e.Note != nil {
		b = appendNote(b, e.Note)
	}
	return closeMessage(b, start)
}

func appendCreated(b []byte, c *Created) []byte {
	b, start := openMessage(b, eventCreated)
	b = appendNumber(b, createdSource, uint64(c.Source))
	b = appendNumber(b, createdIDSealed, uint64(len(c.ID)))
	b = appendNumber(b, createdContextSealed, uint64(len(c.Context)))
	b = append16(b, createdTenant, (*[16]byte)(&c.Tenant))
	b = appendText(b, createdLabel, c.Label)
	b = appendText(b, createdKey, c.Key)
	b = append8(b, createdFingerprint, c.Fingerprint)
	b = append16(b, createdURLHash, (*[16]byte)(&c.URLHash))
	b = appendText(b, createdPrincipal, c.Principal)
	b = appendBytes(b, createdInitialize, c.Initialize)
	b = appendText(b, createdProtocol, c.Protocol)
	b = appendNumber(b, createdTimeout, uint64(c.Timeout.Milliseconds()))
	b = appendNumber(b, createdCreatedAt, uint64(c.CreatedAt))
	b = appendNumber(b, createdLastAccess, uint64(c.LastAccess))
	return closeMessage(b, start)
}

func appendChanged(b []byte, c *Changed) []byte {
	b, start := openMessage(b, eventChanged)
	b = append16(b, changedTenant, (*[16]byte)(&c.Tenant))
	b = append16(b, changedURLHash, (*[16]byte)(&c.URLHash))
	b = appendNumber(b, changedContextSealed, uint64(len(c.Context)))
	b = appendText(b, changedKey, c.Key)
	b = append8(b, changedFingerprint, c.Fingerprint)
	b = appendText(b, changedPrincipal, c.Principal)
	b = appendBytes(b, changedInitialize, c.Initialize)
	b = appendText(b, changedProtocol, c.Protocol)
	b = appendText(b, changedLogLevel, c.LogLevel)
	b = appendList(b, changedSubscribed, c.Subscribed)
	b = appendList(b, changedUnsubscribed, c.Unsubscribed)
	return closeMessage(b, start)
}

func appendBound(b []byte, c *Bound) []byte {
	b, start := openMessage(b, eventBound)
	b = appendText(b, boundReplica, c.Replica)
	b = appendNumber(b, boundUpstreamSealed, uint64(len(c.Upstream)))
	b = appendText(b, boundKey, c.Key)
	return closeMessage(b, start)
}

func appendNote(b []byte, n *Note) []byte {
	b, start := openMessage(b, eventNote)
	b = appendText(b, noteReplica, n.Replica)
	b = appendText(b, noteVersion, n.Version)
	b = appendNumber(b, noteKinds, uint64(n.Kinds))
	b = appendNumber(b, noteCount, n.Count)
	b = append16(b, noteTenant, (*[16]byte)(&n.Tenant))
	b = appendList(b, noteKeys, n.Keys)
	b = appendNumber(b, noteFrom, uint64(n.From))
	b = appendNumber(b, noteTo, uint64(n.To))
	b = appendText(b, noteWho, n.Who)
	b = appendText(b, noteText, n.Text)
	return closeMessage(b, start)
}
