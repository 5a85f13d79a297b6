package jetstream_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	js "github.com/nats-io/nats.go/jetstream"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

// The process that leads the stream is killed under load, and then the next: nothing acknowledged is lost,
// nothing refused is stored, nothing is there twice.
func TestClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t)
	url := nodes.urls()
	j := nodes.open(t)
	f := follow(t, j)
	c := newCommitter(t, j)
	load := startLoad(t, c)
	f.reaches(t, 100)
	for range 2 {
		leader := leaderOf(t, url, "DORMOUSE_BATCHES")
		nodes.kill(t, leader)
		before := c.Stats().Last
		f.reaches(t, before+200)
		nodes.start(t, leader)
	}
	load.end()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	f.reaches(t, c.Stats().Last)
	f.end(t)
	load.check(t, j)
	t.Logf("%d acknowledged, %d refused, %+v", len(load.acknowledged), len(load.refused), c.Stats())
}

// load is callers that append without end.
type load struct {
	stop    context.CancelFunc
	callers sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[uint64]journal.Position
	refused      map[uint64]bool
}

func startLoad(t *testing.T, c *commit.Committer) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel, acknowledged: make(map[uint64]journal.Position), refused: make(map[uint64]bool)}
	var numbers atomic.Uint64
	for range 8 {
		l.callers.Go(func() {
			for ctx.Err() == nil {
				n := numbers.Add(1)
				pos, err := c.Append(context.WithoutCancel(ctx), numbered(n))
				l.note(n, pos, err)
				if err != nil {
					<-time.After(10 * time.Millisecond)
				}
			}
		})
	}
	return l
}

func (l *load) note(n uint64, pos journal.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acknowledged[n] = pos
	case !errors.Is(err, journal.ErrOutcomeUnknown):
		l.refused[n] = true
	}
}

// acknowledges waits until so many events were acknowledged.
func (l *load) acknowledges(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(hung); ; <-time.After(time.Millisecond) {
		l.mu.Lock()
		there := len(l.acknowledged)
		l.mu.Unlock()
		if there >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d acknowledged, not %d", there, n)
		}
	}
}

func (l *load) end() {
	l.stop()
	l.callers.Wait()
}

// check holds what the callers were told against what is stored.
func (l *load) check(t *testing.T, j *jetstream.Journal) {
	t.Helper()
	h, err := journaltest.ReadHistory(t.Context(), j, journaltest.Codec{}, j.ID())
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[uint64]journal.Position)
	for pos, e := range h.Events {
		if other, twice := at[e.Call.Number]; twice {
			t.Errorf("event %d is at %v and %v", e.Call.Number, other, pos)
		}
		at[e.Call.Number] = pos
		if l.refused[e.Call.Number] {
			t.Errorf("event %d was refused and is at %v", e.Call.Number, pos)
		}
	}
	for n, pos := range l.acknowledged {
		if at[n] != pos {
			t.Errorf("event %d was acknowledged at %v and is at %v", n, pos, at[n])
		}
	}
}

func leaderOf(t *testing.T, url, stream string) string {
	t.Helper()
	nc, err := jetstream.Connect(url, jetstream.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	client, err := js.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(hung); ; <-time.After(50 * time.Millisecond) {
		s, err := client.Stream(t.Context(), stream)
		if err == nil && s.CachedInfo().Cluster.Leader != "" {
			return s.CachedInfo().Cluster.Leader
		}
		if time.Now().After(deadline) { // those who could tell may elect just now
			t.Fatalf("no leader: %v", err)
		}
	}
}

// nodeConfig makes the test binary a NATS server of a cluster: name, port, cluster port, the cluster ports
// of all and the folder, separated by commas; and if it is to have no other routes than these, one word more.
const nodeConfig = "DORMOUSE_TEST_NODE"

func node(config string) error {
	part := strings.Split(config, ",")
	port, err := strconv.Atoi(part[1])
	if err != nil {
		return err
	}
	clusterPort, err := strconv.Atoi(part[2])
	if err != nil {
		return err
	}
	o := &server.Options{
		ServerName: part[0], Host: "127.0.0.1", Port: port, NoSigs: true, JetStream: true, SyncAlways: true, StoreDir: part[6],
		Cluster: server.ClusterOpts{Name: "dormouse", Host: "127.0.0.1", Port: clusterPort},
	}
	if len(part) > 7 {
		o.Cluster.Advertise, o.Cluster.NoAdvertise = "127.0.0.1:1", true
	}
	for _, p := range part[3:6] {
		o.Routes = append(o.Routes, server.RoutesFromStr("nats://127.0.0.1:"+p)...)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	select {} // until it is killed
}

// nodes are the processes of a cluster, by name.
type nodes struct {
	config map[string]string
	ports  []string
	cmds   map[string]*exec.Cmd
}

func startNodes(t *testing.T) *nodes {
	t.Helper()
	n := &nodes{config: make(map[string]string), cmds: make(map[string]*exec.Cmd)}
	var cluster []string
	for range 3 {
		n.ports = append(n.ports, strconv.Itoa(freePort(t)))
		cluster = append(cluster, strconv.Itoa(freePort(t)))
	}
	for i := range 3 {
		name := "n" + strconv.Itoa(i)
		n.config[name] = strings.Join([]string{name, n.ports[i], cluster[i], strings.Join(cluster, ","), t.TempDir()}, ",")
		n.start(t, name)
	}
	return n
}

func (n *nodes) start(t *testing.T, name string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), nodeConfig+"="+n.config[name])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.cmds[name] = cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func (n *nodes) kill(t *testing.T, name string) {
	t.Helper()
	if err := n.cmds[name].Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = n.cmds[name].Wait() // "signal: killed"
}

func (n *nodes) urls() string {
	return "nats://127.0.0.1:" + strings.Join(n.ports, ",nats://127.0.0.1:")
}

// open opens a journal of three replicas as soon as the cluster can make one.
func (n *nodes) open(t *testing.T) *jetstream.Journal {
	t.Helper()
	for deadline := time.Now().Add(hung); ; <-time.After(100 * time.Millisecond) {
		nc, err := jetstream.Connect(n.urls(), jetstream.ConnectOptions{})
		if err == nil {
			var j *jetstream.Journal
			if j, err = jetstream.Open(t.Context(), nc, jetstream.Options{Replicas: 3, Create: true}); err == nil {
				t.Cleanup(nc.Close)
				return j
			}
			nc.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
