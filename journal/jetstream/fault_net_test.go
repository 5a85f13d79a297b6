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
	for range times {
		f.reaches(t, journal.Seq(f.seen.Load())+20)
		w.hold()
		<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
		w.cut()
		w.release()
	}
	f.reaches(t, journal.Seq(f.seen.Load())+20)
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
// while: callers are told in time, whatever they allow, and nothing is torn or there twice.
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
	if _, err := c.Append(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	w.hold()
	// This one has little time, the next one waits for its stream, the last one comes to a stream that is
	// known not to answer.
	inTime(t, 50*time.Millisecond, 300*time.Millisecond, func(ctx context.Context) {
		if _, err := c.Append(ctx, numbered(2), numbered(3)); !errors.Is(err, journal.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("append: %v", err)
		}
	})
	inTime(t, time.Minute, 2*time.Second, func(ctx context.Context) {
		if _, err := c.Append(ctx, numbered(4)); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("append behind a batch in doubt: %v", err)
		}
	})
	inTime(t, time.Minute, 50*time.Millisecond, func(ctx context.Context) {
		if _, err := c.Append(ctx, numbered(5)); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("append to a stream that does not answer: %v", err)
		}
	})
	c.Post(numbered(6))
	w.delay(30 * time.Millisecond)
	w.release()
	inTime(t, time.Minute, 10*time.Second, func(ctx context.Context) {
		for {
			if _, err := c.Append(ctx, numbered(100)); err == nil {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
	})
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	h, err := journaltest.ReadHistory(t.Context(), direct, journaltest.Codec{}, direct.ID())
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[uint64]journal.Position)
	for pos, e := range h.Events {
		at[e.Call.Number] = pos
	}
	if len(at) != 5 || len(h.Events) != 5 || at[3].Seq != at[2].Seq || at[3].Index != at[2].Index+1 {
		t.Errorf("events at %v", at)
	}
}

// over returns a context that has ended.
func over(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cancel()
	return ctx
}

// inTime gives fn a context that ends, and expects it to return within bounds.
func inTime(t *testing.T, deadline, bound time.Duration, fn func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	began := time.Now()
	fn(ctx)
	if took := time.Since(began); took > bound+time.Second { // the machine may be busy
		t.Errorf("took %v", took)
	}
}
