package jetstream_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

// wire is a TCP proxy between a client and its server, whose answers it can hold back.
type wire struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	held  chan struct{} // closed when answers flow again; nil while they do
	slow  time.Duration // what every answer waits
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to}
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.release()
		w.cut()
		w.wg.Wait()
	})
	return w
}

func (w *wire) url() string { return "nats://" + w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		var dialer net.Dialer
		up, err := dialer.DialContext(context.Background(), "tcp", w.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, client, up)
		w.mu.Unlock()
		w.wg.Go(func() { w.carry(up, client, false) })
		w.wg.Go(func() { w.carry(client, up, true) })
	}
}

// carry copies until either side is closed.
func (w *wire) carry(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if answers {
			w.wait()
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *wire) wait() {
	w.mu.Lock()
	held, slow := w.held, w.slow
	w.mu.Unlock()
	if held != nil {
		<-held
	}
	if slow > 0 {
		<-time.After(slow)
	}
}

// hold keeps answers back, while requests still arrive.
func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		w.held = make(chan struct{})
	}
}

func (w *wire) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held != nil {
		close(w.held)
		w.held = nil
	}
}

func (w *wire) delay(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = d
}

// cut closes all connections; what was held back never arrives.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// overWire opens a journal through a wire, and another way to the same journal.
func overWire(t *testing.T) (w *wire, j, direct *jetstream.Journal) {
	t.Helper()
	s := listen(t, server.Options{Port: -1, StoreDir: t.TempDir()})
	w = newWire(t, "127.0.0.1:"+strconv.Itoa(port(s)))
	return w, connect(t, w.url(), jetstream.Options{}), connect(t, "nats://"+w.to, jetstream.Options{})
}

const cuts = "DORMOUSE_CUTS" // how many times TestAcksAreLost cuts the wire; 8 if it is not set

// Batches are stored and their acks get lost with the connection, again and again under load: callers are
// told only what is true, and nothing is there twice.
func TestAcksAreLost(t *testing.T) {
	t.Parallel()
	times := 8
	if n, err := strconv.Atoi(os.Getenv(cuts)); err == nil {
		times = n
	}
	w, j, direct := overWire(t)
	f := follow(t, direct)
	c := newCommitter(t, j)
	l := startLoad(t, c)
	for n := 0; n < times || c.Stats().Conflicts == 0 && n < 20*times; n++ { // until an ack was lost
		f.reaches(t, journal.Seq(f.seen.Load())+20)
		w.hold()
		<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
		w.cut()
		w.release()
		f.reaches(t, journal.Seq(f.seen.Load())+20)
	}
	l.end()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	f.reaches(t, c.Stats().Last)
	f.end(t)
	l.check(t, direct)
	if c.Stats().Conflicts == 0 {
		t.Error("no ack was lost: this test sees nothing")
	}
	t.Logf("%d cuts, %d acknowledged, %d refused, %+v", times, len(l.acknowledged), len(l.refused), c.Stats())
}

// The server takes everything and its answers come late, later than an attempt waits, or not at all for a
// while: callers are told, whatever they allow, and nothing is torn or there twice. How soon they are told is tested where
// time is no machine's: commit's TestSilentStream.
func TestAcksAreLate(t *testing.T) {
	t.Parallel()
	w, j, direct := overWire(t)
	c, err := commit.New(commit.Options{
		Port: j, Encoder: journaltest.Codec{}, Journal: j.ID(), Writer: journal.NewWriterID(),
		AttemptTimeout: 200 * time.Millisecond, MaxWait: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(over(t)) })
	l := lateCalls{c: c, refused: make(map[uint64]bool)}
	before := l.untilStored(t, 100)
	w.hold()
	// The first one leaves when its batch is stored, the next one waits for its stream, the last one comes to a
	// stream that is known not to answer.
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer leave()
		awaitBehind(t, direct, before.Seq)
	}()
	if err := l.append(ctx, 2, 3); !errors.Is(err, journal.ErrOutcomeUnknown) {
		t.Errorf("append: %v", err)
	}
	if err := l.append(t.Context(), 4); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("append behind a batch in doubt: %v", err)
	}
	if err := l.append(t.Context(), 5); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("append to a stream that does not answer: %v", err)
	}
	c.Post(numbered(6))
	w.delay(30 * time.Millisecond)
	w.release()
	l.untilStored(t, 200)
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	l.check(t, direct)
}

// lateCalls is one caller of a committer whose stream answers late.
type lateCalls struct {
	c       *commit.Committer
	refused map[uint64]bool
	stored  []uint64
}

func (l *lateCalls) append(ctx context.Context, numbers ...uint64) error {
	var events []journal.Event
	for _, n := range numbers {
		events = append(events, numbered(n))
	}
	_, err := l.c.Append(ctx, events...)
	for _, n := range numbers {
		l.refused[n] = err != nil && !errors.Is(err, journal.ErrOutcomeUnknown)
	}
	return err
}

// untilStored appends events numbered from n on until one is stored, and returns where: a busy machine may be late, too.
func (l *lateCalls) untilStored(t *testing.T, n uint64) journal.Position {
	t.Helper()
	for began := time.Now(); ; n++ {
		pos, err := l.c.Append(t.Context(), numbered(n))
		if err == nil {
			l.stored = append(l.stored, n)
			return pos
		}
		l.refused[n] = !errors.Is(err, journal.ErrOutcomeUnknown)
		if time.Since(began) > hung {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// check expects what was stored, and the batch in doubt whole, each event once, and nothing that was refused.
func (l *lateCalls) check(t *testing.T, j *jetstream.Journal) {
	t.Helper()
	h, err := journaltest.ReadHistory(t.Context(), j, journaltest.Codec{}, j.ID())
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[uint64]journal.Position)
	for pos, e := range h.Events {
		at[e.Call.Number] = pos
		if l.refused[e.Call.Number] {
			t.Errorf("event %d was refused and is at %v", e.Call.Number, pos)
		}
	}
	for _, n := range append(l.stored, 2, 3, 6) {
		if at[n] == (journal.Position{}) {
			t.Errorf("event %d is not there", n)
		}
	}
	if len(at) != len(h.Events) || at[3].Seq != at[2].Seq || at[3].Index != at[2].Index+1 {
		t.Errorf("events at %v, %d of them", at, len(h.Events))
	}
}

// awaitBehind waits until a journal has a batch behind that one.
func awaitBehind(t *testing.T, j *jetstream.Journal, seq journal.Seq) {
	t.Helper()
	for t.Context().Err() == nil {
		if b, err := j.Bounds(t.Context()); err == nil && b.Last > seq {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// over returns a context that has ended.
func over(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cancel()
	return ctx
}
