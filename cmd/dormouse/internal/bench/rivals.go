package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
)

// plainEvents gives a rival its events: as many bytes as Dormouse seals, and as random, because disks and file systems
// make short work of zeros.
type plainEvents struct {
	noise []byte
	next  atomic.Int64
}

func newPlainEvents() *plainEvents {
	e := &plainEvents{noise: make([]byte, poolSize*sealedBytes)}
	_, _ = rand.Read(e.noise) // never fails
	return e
}

// event returns the bytes of the next event. They must not be changed.
func (e *plainEvents) event() []byte {
	at := int(e.next.Add(1)%poolSize) * sealedBytes
	return e.noise[at : at+sealedBytes]
}

// bare is the ceiling: group commit of the same events, and nothing else. What waits when a publish returns goes
// out with the next one; like the committer, it lets others run before it goes, and heeds its callers'
// contexts. Of an event it packs what is in no other, the time, the ref and the two sealed fields, as if the rest
// could be left out for nothing: about as many bytes as Dormouse stores for it.
type bare struct {
	inProcess

	events  []journal.Event
	next    atomic.Int64
	client  js.JetStream
	subject string
	calls   sync.Pool // of chan error

	wake chan struct{}
	done chan struct{}

	mu           sync.Mutex
	waiting      []packed
	payload      []byte
	spare        []packed // the slices of the batch that is out
	sparePayload []byte
	closing      bool
}

// packed is an event in the payload.
type packed struct {
	done chan error
	end  int // where it ends
}

func openBare(ctx context.Context, s *scratch, _ int) (appender, error) {
	client, subject, err := s.stream(ctx, "bare")
	if err != nil {
		return nil, err
	}
	d, err := openDormouse(ctx, s, "bareevents", nil)
	if err != nil {
		return nil, err
	}
	events, err := d.pool(ctx)
	if err := errors.Join(err, d.close(ctx)); err != nil {
		return nil, err
	}
	b := &bare{
		events: events, client: client, subject: subject,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	b.calls.New = func() any { return make(chan error, 1) }
	go b.run(context.WithoutCancel(ctx))
	return b, nil
}

func (b *bare) append(ctx context.Context, _ int) (int, error) {
	event := b.events[b.next.Add(1)%poolSize]
	done := b.calls.Get().(chan error)
	b.mu.Lock()
	b.payload = pack(b.payload, &event)
	b.waiting = append(b.waiting, packed{done, len(b.payload)})
	b.mu.Unlock()
	b.rouse()
	select {
	case err := <-done:
		b.calls.Put(done)
		return 1, err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func pack(b []byte, e *journal.Event) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(e.At))
	b = append(b, e.Ref[:]...)
	b = append(b, e.Created.ID...)
	return append(b, e.Created.Context...)
}

func (b *bare) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *bare) run(ctx context.Context) {
	defer close(b.done)
	crowd := 0
	for {
		if crowd > 1 {
			b.yield()
		}
		waiting, payload, closing := b.take()
		switch {
		case len(waiting) > 0:
			_, err := b.client.Publish(ctx, b.subject, payload)
			for _, w := range waiting {
				w.done <- err
			}
			crowd = len(waiting)
		case closing:
			return
		default:
			<-b.wake
		}
	}
}

func (b *bare) yield() {
	for n, last := -1, 0; n != last && last < journal.MaxBatchEvents; {
		n = last
		runtime.Gosched()
		b.mu.Lock()
		last = len(b.waiting)
		b.mu.Unlock()
	}
}

// take returns what waits, as much as fits in one batch. It is good until the call after the next one.
func (b *bare) take() (waiting []packed, payload []byte, closing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), journal.MaxBatchEvents)
	end := 0
	if n > 0 {
		end = b.waiting[n-1].end
	}
	waiting, payload = b.waiting[:n], b.payload[:end]
	rest, restPayload := append(b.spare[:0], b.waiting[n:]...), append(b.sparePayload[:0], b.payload[end:]...)
	for i := range rest {
		rest[i].end -= end
	}
	b.spare, b.sparePayload = b.waiting, b.payload
	b.waiting, b.payload = rest, restPayload
	return waiting, payload, b.closing
}

func (b *bare) close(context.Context) error {
	b.mu.Lock()
	b.closing = true
	b.mu.Unlock()
	b.rouse()
	<-b.done
	return nil
}

// message publishes each event as a message of its own and waits for its acknowledgement.
type message struct {
	inProcess
	*plainEvents

	client  js.JetStream
	subject string
}

func openMessage(ctx context.Context, s *scratch, _ int) (appender, error) {
	client, subject, err := s.stream(ctx, "message")
	return &message{plainEvents: newPlainEvents(), client: client, subject: subject}, err
}

func (m *message) append(ctx context.Context, _ int) (int, error) {
	_, err := m.client.Publish(ctx, m.subject, m.event())
	return 1, err
}

func (*message) close(context.Context) error { return nil }

// async publishes each event as a message of its own, with up to 4096 unacknowledged: a caller does not
// learn whether its own was stored.
type async struct{ message }

func openAsync(ctx context.Context, s *scratch, _ int) (appender, error) {
	client, subject, err := s.stream(ctx, "async", js.WithPublishAsyncMaxPending(4096))
	return &async{message{plainEvents: newPlainEvents(), client: client, subject: subject}}, err
}

func (a *async) append(context.Context, int) (int, error) {
	_, err := a.client.PublishAsync(a.subject, a.event(), js.WithStallWait(time.Minute))
	return 1, err
}

func (a *async) settle(ctx context.Context) error {
	select {
	case <-a.client.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
