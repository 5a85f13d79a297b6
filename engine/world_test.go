package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/engine"
	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
)

// ledger is the smallest journal that folds: what is appended is folded at once, by the real fold. It
// stands in where a test needs the exact moment of a fault; other tests run over the real parts.
type ledger struct {
	id journal.ID

	mu    sync.RWMutex
	state *replay.State

	down    atomic.Bool
	lostAck atomic.Int32 // so many appends are stored and answered with ErrOutcomeUnknown
}

func newLedger() *ledger { return &ledger{id: journal.NewID(), state: replay.NewState()} }

// pen is one replica's end of a ledger.
type pen struct {
	*ledger

	writer journal.WriterID
	number uint64
	last   journal.Digest

	logMu sync.Mutex
	log   []journal.Event
}

func (l *ledger) pen() *pen { return &pen{ledger: l, writer: journal.NewWriterID()} }

func (p *pen) Append(ctx context.Context, events ...journal.Event) (journal.Position, error) {
	if p.down.Load() {
		return journal.Position{}, journal.ErrUnavailable
	}
	if err := ctx.Err(); err != nil {
		return journal.Position{}, context.Cause(ctx)
	}
	pos := p.store(events)
	if p.lostAck.Load() > 0 && p.lostAck.Add(-1) >= 0 {
		return journal.Position{}, journal.ErrOutcomeUnknown
	}
	return pos, nil
}

func (p *pen) Post(e journal.Event) { p.store([]journal.Event{e}) }

func (p *pen) store(events []journal.Event) journal.Position {
	p.logMu.Lock()
	defer p.logMu.Unlock()
	p.log = append(p.log, events...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	data := binary.BigEndian.AppendUint64(p.writer[:], p.number)
	m := journal.Message{Seq: p.state.Seq() + 1, Time: journal.InstantOf(time.Now()), Data: data}
	b := &journal.Batch{Events: events, Header: journal.Header{
		Journal: p.id, Writer: p.writer, Number: p.number, Previous: p.last, Count: uint32(len(events)),
	}}
	if err := p.state.Apply(m, b); err != nil {
		panic(err)
	}
	p.last = sha256.Sum256(data)
	return journal.Position{Seq: m.Seq}
}

func (l *ledger) View(fn func(*replay.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	fn(l.state)
}

func (l *ledger) WaitFor(context.Context, journal.Seq) error { return nil }

func (l *ledger) CatchUp(context.Context) error {
	if l.down.Load() {
		return journal.ErrUnavailable
	}
	return nil
}

// count returns how many events of a kind this replica wrote.
func (p *pen) count(k journal.Kind) (n int) {
	p.logMu.Lock()
	defer p.logMu.Unlock()
	for i := range p.log {
		if p.log[i].Kind == k {
			n++
		}
	}
	return n
}

func (p *pen) events(k journal.Kind) (list []journal.Event) {
	p.logMu.Lock()
	defer p.logMu.Unlock()
	for _, e := range p.log {
		if e.Kind == k {
			list = append(list, e)
		}
	}
	return list
}

// plainVault seals nothing; it only checks that purpose, tenant and session fit.
type plainVault struct{ opened atomic.Int64 }

func (v *plainVault) Key(context.Context, journal.TenantID) (journal.KeyID, journal.Fingerprint, error) {
	return "k1", journal.Fingerprint{1}, nil
}

func (v *plainVault) label(t journal.TenantID, k journal.KeyID, p journal.Purpose, r journal.Ref) []byte {
	return fmt.Appendf(nil, "%s/%s/%d/%s:", t, k, p, r)
}

func (v *plainVault) Seal(_ context.Context, t journal.TenantID, k journal.KeyID, p journal.Purpose, r journal.Ref, plain []byte) (journal.Sealed, error) {
	nonce := journal.NewID()
	return append(append(v.label(t, k, p, r), nonce[:]...), plain...), nil
}

func (v *plainVault) Open(_ context.Context, t journal.TenantID, k journal.KeyID, p journal.Purpose, r journal.Ref, s journal.Sealed) ([]byte, error) {
	v.opened.Add(1)
	plain, ok := bytes.CutPrefix(s, v.label(t, k, p, r))
	if !ok {
		return nil, journal.ErrWrongKey
	}
	return bytes.Clone(plain[16:]), nil
}

// runtime is a Runtime that remembers whether it was closed.
type runtime struct {
	name   string
	closed atomic.Int32
	slow   chan struct{} // Close waits for it
}

func (r *runtime) ServeHTTP(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(r.name)) }

func (r *runtime) Close() error {
	if r.slow != nil {
		<-r.slow
	}
	if r.closed.Add(1) > 1 {
		panic("runtime closed twice")
	}
	return nil
}

// waker makes runtimes and counts them.
type waker struct {
	mu   sync.Mutex
	made []*runtime
	wake func(ctx context.Context, s *engine.Session) error
}

func (w *waker) Wake(ctx context.Context, s *engine.Session) (engine.Runtime, error) {
	if w.wake != nil {
		if err := w.wake(ctx, s); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &runtime{name: fmt.Sprint("woken ", len(w.made)+1)}
	w.made = append(w.made, r)
	return r, nil
}

func (w *waker) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.made)
}

// house is one replica: engine, its end of the ledger, its waker, its log.
type house struct {
	*engine.Engine

	t     testing.TB
	pen   *pen
	vault *plainVault
	waker *waker
	log   *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newHouse(tb testing.TB, l *ledger, name journal.ReplicaID, mod ...func(*engine.Options)) *house {
	tb.Helper()
	h := &house{t: tb, pen: l.pen(), vault: &plainVault{}, waker: &waker{}, log: &lockedBuffer{}}
	o := engine.Options{
		Replica: name, Appender: h.pen, Table: l, Vault: h.vault, Waker: h.waker, Logger: zerolog.New(h.log),
	}
	for _, m := range mod {
		m(&o)
	}
	e, err := engine.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	h.Engine = e
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			tb.Errorf("shutdown: %v", err)
		}
	})
	return h
}

var errRefused = errors.New("upstream refused")

func alice() engine.Caller {
	return engine.Caller{
		Principal: "token:alice", Tenant: journal.TenantID{1}, Label: "tenant-1", URLHash: journal.URLHash{1},
		Context: &engine.InstanceContext{N8nAPIURL: "https://one.example", N8nAPIKey: "key-one", InstanceID: "tenant-1"},
	}
}

func bob() engine.Caller {
	c := alice()
	c.Principal, c.Tenant, c.URLHash = "token:bob", journal.TenantID{2}, journal.URLHash{2}
	c.Context = &engine.InstanceContext{N8nAPIURL: "https://two.example", N8nAPIKey: "key-two", InstanceID: "tenant-2"}
	return c
}

// open is the usual handshake.
func open(rt engine.Runtime) func(context.Context, *engine.Session) (engine.Opened, error) {
	return func(context.Context, *engine.Session) (engine.Opened, error) {
		return engine.Opened{Initialize: []byte(`{"capabilities":{}}`), Protocol: "2025-06-18", Upstream: "up-1", Runtime: rt}, nil
	}
}

// create makes a session and gives its lease back.
func (h *house) create(c engine.Caller, rt engine.Runtime) journal.SessionID {
	h.t.Helper()
	l, err := h.Create(h.t.Context(), c, open(rt))
	if err != nil {
		h.t.Fatal(err)
	}
	defer l.Release()
	return l.Session().ID()
}

// acquire is Acquire that must succeed.
func (h *house) acquire(id journal.SessionID, c engine.Caller) *engine.Lease {
	h.t.Helper()
	l, err := h.Acquire(h.t.Context(), id, c)
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

// unknown checks that the session cannot be acquired.
func (h *house) unknown(id journal.SessionID, c engine.Caller) {
	h.t.Helper()
	l, err := h.Acquire(h.t.Context(), id, c)
	if err == nil {
		l.Release()
	}
	if !errors.Is(err, engine.ErrUnknownSession) {
		h.t.Errorf("acquire: %v, want ErrUnknownSession", err)
	}
}

func wantErr(tb testing.TB, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("error %v, want %v", err, want)
	}
}
