package bench

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// openSessions is how many sessions take part at a time: a session's events stand near to one another.
const openSessions = 2000

// load makes the events of a journal, one millisecond apart.
type load struct {
	minter *minter
	mixed  bool // nine accesses for each session created
	n      int
	at     journal.Instant
	refs   []journal.Ref // the sessions that are open
}

func newLoad(m *minter, mixed bool) *load {
	return &load{minter: m, mixed: mixed, at: journal.InstantOf(time.Now())}
}

func (l *load) next(ctx context.Context) (journal.Event, error) {
	n := l.n
	l.n++
	l.at++
	if l.mixed && n%mixedPart > 0 {
		return access(l.refs[scatter(n)%uint64(len(l.refs))], n, l.at), nil
	}
	e, err := l.minter.created(ctx, n, l.at)
	if len(l.refs) < openSessions {
		l.refs = append(l.refs, e.Ref)
	} else {
		l.refs[n/mixedPart%openSessions] = e.Ref
	}
	return e, err
}

// scatter turns a count into what looks like chance and is the same in each run.
func scatter(n int) uint64 {
	x := uint64(n) * 0x9e3779b97f4a7c15
	return x ^ x>>29
}

// filled tells of a journal that was filled.
type filled struct {
	keys     *seal.Keyring
	events   int
	bytes    int
	messages int
	first    journal.Instant // the time of the first event
	session  journal.Ref     // of a session that begins in the middle
}

// fill stores a chain of batches, n events in all, as one writer would.
func (l *load) fill(ctx context.Context, j *jetstream.Journal, keys *seal.Keyring, n, batch int) (*filled, error) {
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(keys, w)
	if err != nil {
		return nil, err
	}
	f := &filled{keys: keys, events: n, first: l.at + 1}
	h := journal.Header{Journal: j.ID(), Writer: w}
	var last journal.Seq
	for f.messages = 0; n > 0; f.messages++ {
		events := make([]journal.Event, min(n, batch))
		for i := range events {
			if events[i], err = l.next(ctx); err != nil {
				return nil, err
			}
			if f.session.IsZero() && l.n > f.events/2 && events[i].Created != nil {
				f.session = events[i].Ref
			}
		}
		h.Number++
		data, err := sealer.Encode(&h, events)
		if err != nil {
			return nil, err
		}
		if last, err = j.Publish(ctx, w, last, data); err != nil {
			return nil, err
		}
		h.Previous = journal.DigestOf(data)
		f.bytes += len(data)
		n -= len(events)
	}
	return f, nil
}

// plainEvent is what one would write without thinking: a JSON document an event, nothing sealed.
type plainEvent struct {
	Kind       string          `json:"kind"`
	Session    string          `json:"session"`
	At         int64           `json:"at"`
	Tenant     string          `json:"tenant,omitempty"`
	Context    json.RawMessage `json:"context,omitempty"`
	Initialize json.RawMessage `json:"initialize,omitempty"`
	Timeout    int64           `json:"timeout,omitempty"`
	Method     string          `json:"method,omitempty"`
	Tool       string          `json:"tool,omitempty"`
	Outcome    string          `json:"outcome,omitempty"`
	Duration   int64           `json:"duration,omitempty"`
}

func plain(e *journal.Event) plainEvent {
	p := plainEvent{Kind: e.Kind.String(), Session: hex.EncodeToString(e.Ref[:]), At: int64(e.At)}
	if c := e.Created; c != nil {
		p.Tenant, p.Context, p.Initialize = c.Label, instanceContext(c.Label), c.Initialize
		p.Timeout = c.Timeout.Milliseconds()
		return p
	}
	p.Method, p.Tool, p.Duration = e.Call.Method, e.Call.Tool, e.Call.Duration.Microseconds()
	if e.Call.Outcome != 0 {
		p.Outcome = e.Call.Outcome.String()
	}
	return p
}

// fillPlain stores n events as one JSON message each.
func (l *load) fillPlain(ctx context.Context, client js.JetStream, subject string, n int) error {
	for range n {
		e, err := l.next(ctx)
		if err != nil {
			return err
		}
		data, err := json.Marshal(plain(&e))
		if err != nil {
			return err
		}
		if _, err := client.PublishAsync(subject, data, js.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	select {
	case <-client.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
