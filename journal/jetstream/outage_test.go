package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

// hung is a wait that nothing takes that works, however busy the machine is. No test waits for less.
const hung = 3 * time.Minute

// listen starts a server that others connect to.
func listen(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.NoSigs, o.JetStream, o.SyncAlways, o.NoLog = "127.0.0.1", true, true, true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { halt(s) })
	if !s.ReadyForConnections(hung) {
		t.Fatal("the server does not start")
	}
	return s
}

func halt(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func port(s *server.Server) int { return s.Addr().(*net.TCPAddr).Port }

func connect(t *testing.T, url string, o jetstream.Options) *jetstream.Journal {
	t.Helper()
	nc, err := jetstream.Connect(url, jetstream.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	o.Create = true
	j, err := jetstream.Open(t.Context(), nc, o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// follower reads a journal and checks the order.
type follower struct {
	seen atomic.Uint64
	err  chan error
	stop context.CancelFunc
}

func follow(t *testing.T, j *jetstream.Journal) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{err: make(chan error, 1), stop: cancel}
	go func() {
		f.err <- j.Read(ctx, 0, func(m journal.Message) error {
			if !f.seen.CompareAndSwap(uint64(m.Seq)-1, uint64(m.Seq)) {
				return fmt.Errorf("%d after %d", m.Seq, f.seen.Load())
			}
			return nil
		})
	}()
	return f
}

// reaches waits until the follower has seen a message.
func (f *follower) reaches(t *testing.T, seq journal.Seq) {
	t.Helper()
	for deadline := time.Now().Add(hung); f.seen.Load() < uint64(seq); {
		if time.Now().After(deadline) {
			t.Fatalf("the reader is at %d, not at %d", f.seen.Load(), seq)
		}
		<-time.After(time.Millisecond)
	}
}

func (f *follower) end(t *testing.T) {
	t.Helper()
	f.stop()
	if err := <-f.err; !errors.Is(err, context.Canceled) {
		t.Errorf("the reader ended: %v", err)
	}
}

// A server that goes away and comes back: appends fail meanwhile, accesses wait, readers go on.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := freePort(t) // it is to get the same one again
	s := listen(t, server.Options{Port: at, StoreDir: dir})
	j := connect(t, "nats://127.0.0.1:"+strconv.Itoa(at), jetstream.Options{})
	f := follow(t, j)
	c := newCommitter(t, j)
	for i := range 10 {
		if _, err := c.Append(t.Context(), numbered(uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	f.reaches(t, 10)
	for range 3 {
		halt(s)
		// The first may have left before the connection was seen to be gone.
		if err := appendOne(t, c, 1000); !errors.Is(err, journal.ErrUnavailable) && !errors.Is(err, journal.ErrOutcomeUnknown) {
			t.Errorf("append: %v", err)
		}
		if err := appendOne(t, c, 1001); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
		for i := range 100 {
			c.Post(numbered(uint64(100 + i)))
		}
		s = listen(t, server.Options{Port: at, StoreDir: dir})
		for began := time.Now(); appendOne(t, c, 2000) != nil; <-time.After(10 * time.Millisecond) {
			if time.Since(began) > hung {
				t.Fatal("appends still fail")
			}
		}
		f.reaches(t, c.Stats().Last)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	f.reaches(t, c.Stats().Last)
	f.end(t)
	h, err := journaltest.ReadHistory(t.Context(), j, journaltest.Codec{}, j.ID())
	if err != nil {
		t.Fatal(err)
	}
	if st := c.Stats(); int(st.Events) != len(h.Events) || st.Lost+st.Superseded != 0 || len(h.Events) < 313 {
		t.Errorf("%d events, %+v", len(h.Events), st)
	}
}

func newCommitter(t *testing.T, j *jetstream.Journal) *commit.Committer {
	t.Helper()
	c, err := commit.New(commit.Options{
		Port: j, Encoder: journaltest.Codec{}, Journal: j.ID(), Writer: journal.NewWriterID(), AttemptTimeout: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		_ = c.Close(ctx)
	})
	return c
}

func appendOne(t *testing.T, c *commit.Committer, n uint64) error {
	t.Helper()
	_, err := c.Append(t.Context(), numbered(n)) // the committer itself waits for ten seconds at most
	return err
}

// cluster starts three servers that keep three replicas.
func cluster(t *testing.T) []*server.Server {
	t.Helper()
	var servers []*server.Server
	var routes string
	for i := range 3 {
		o := server.Options{Port: -1, StoreDir: t.TempDir(), ServerName: "n" + strconv.Itoa(i)}
		o.Cluster = server.ClusterOpts{Name: "dormouse", Host: "127.0.0.1", Port: -1}
		if i == 0 {
			o.Cluster.Port = freePort(t)
			routes = "nats://127.0.0.1:" + strconv.Itoa(o.Cluster.Port)
		}
		o.Routes = server.RoutesFromStr(routes)
		servers = append(servers, listen(t, o))
	}
	for deadline := time.Now().Add(hung); ; <-time.After(50 * time.Millisecond) {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return servers
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the cluster has no leader")
		}
	}
}

// freePort returns a loopback port that nothing listens on, below the range from which the kernel takes those of others, so
// that nobody takes it until it is used, or between two uses.
func freePort(t *testing.T) int {
	t.Helper()
	for range 200 {
		port := 12000 + rand.IntN(18000)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func urls(servers []*server.Server) (url string) {
	for _, s := range servers {
		url += ",nats://127.0.0.1:" + strconv.Itoa(port(s))
	}
	return url[1:]
}

func TestClusterLaws(t *testing.T) {
	t.Parallel()
	servers := cluster(t)
	n := 0
	journaltest.Run(t, func(t *testing.T) journaltest.Harness {
		t.Helper()
		n++
		o := jetstream.Options{Prefix: "law" + strconv.Itoa(n), Replicas: 3}
		j := connect(t, urls(servers), o)
		return journaltest.Harness{
			Journal: j, Keys: j.Keys(),
			Remove: func(ctx context.Context, seq journal.Seq) error {
				nc, err := jetstream.Connect(urls(servers), jetstream.ConnectOptions{})
				if err != nil {
					return err
				}
				defer nc.Close()
				return remove(ctx, nc, "LAW"+strconv.Itoa(n)+"_BATCHES", seq)
			},
		}
	})
}
