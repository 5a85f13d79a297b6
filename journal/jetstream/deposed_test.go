package jetstream_test

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

// The server that leads the stream is cut off from the others, which elect another leader. A writer and a reader that
// are connected to it then, while it still answers as if it led, take nothing for damaged and go on when it has joined
// the others again: nothing acknowledged is lost, nothing refused is stored, nothing is there twice.
func TestDeposedLeaderAnswers(t *testing.T) {
	t.Parallel()
	nodes := startNodesApart(t)
	witness := nodes.open(t)
	old := leaderOf(t, nodes.urls(), "DORMOUSE_BATCHES")
	first, rest := nodes.client(old), nodes.client(nodes.others(old)[0])
	line := newCable(t, rest)
	nc, err := jetstream.Connect("nats://127.0.0.1:"+line.port(), jetstream.ConnectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	f := follow(t, j)
	failed := newFailures()
	w := journal.NewWriterID()
	c, err := commit.New(commit.Options{
		Port: j, Encoder: journaltest.Codec{}, Journal: j.ID(), Writer: w, MaxRetry: 200 * time.Millisecond, Observer: failed,
	})
	if err != nil {
		t.Fatal(err)
	}
	load := startLoad(t, c)
	f.reaches(t, 20)

	nodes.cutOff(old)
	before := c.Stats().Last
	f.reaches(t, before+5) // by the word of another leader
	line.lay(first)
	select {
	case <-failed.doubted:
		t.Log("the deposed leader told of an older batch")
	case err := <-failed.damage:
		t.Fatalf("a false alarm: %v", err)
	case <-time.After(20 * time.Second): // it had noticed before it could be asked
		t.Log("the deposed leader told nothing")
	}
	nodes.join(old)
	before = c.Stats().Last
	f.reaches(t, before+200)
	load.end()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	f.reaches(t, c.Stats().Last)
	f.end(t)
	load.check(t, witness)
	if len(failed.damage) > 0 {
		t.Errorf("a false alarm: %v", <-failed.damage)
	}
	t.Logf("%d acknowledged, %d refused, %+v", len(load.acknowledged), len(load.refused), c.Stats())
}

// failures is an observer of failed attempts.
type failures struct {
	once    sync.Once
	doubted chan struct{} // closed when one said what is not to be believed yet
	damage  chan error    // one that was believed, and ended the writer
}

func newFailures() *failures {
	return &failures{doubted: make(chan struct{}), damage: make(chan error, 1)}
}

func (f *failures) AttemptFailed(err error) {
	if strings.Contains(err.Error(), "not believed yet") {
		f.once.Do(func() { close(f.doubted) })
	}
	if errors.Is(err, journal.ErrDamaged) {
		f.damage <- err
	}
}

func (*failures) BatchCommitted(int, int, time.Duration) {}
func (*failures) AccessesDropped(int, int)               {}
func (*failures) ReachableChanged(bool)                  {}

// apart are nodes whose connections to one another can be cut.
type apart struct {
	*nodes

	names  []string
	cables map[[2]string]*cable // from a node to a node
}

func startNodesApart(t *testing.T) *apart {
	t.Helper()
	a := &apart{nodes: &nodes{config: make(map[string]string), cmds: make(map[string]*exec.Cmd)}, cables: make(map[[2]string]*cable)}
	ports := make(map[string]string)
	for i := range 3 {
		name := "n" + strconv.Itoa(i)
		a.names, ports[name] = append(a.names, name), strconv.Itoa(freePort(t))
		a.ports = append(a.ports, strconv.Itoa(freePort(t)))
	}
	for i, name := range a.names {
		routes := make([]string, 0, 3)
		for _, to := range a.names {
			if to == name {
				routes = append(routes, ports[name])
				continue
			}
			c := newCable(t, "127.0.0.1:"+ports[to])
			a.cables[[2]string{name, to}] = c
			routes = append(routes, c.port())
		}
		a.config[name] = strings.Join([]string{name, a.ports[i], ports[name], strings.Join(routes, ","), t.TempDir(), "apart"}, ",")
		a.start(t, name)
	}
	return a
}

// client returns where clients of a node connect.
func (a *apart) client(name string) string {
	for i := range a.names {
		if a.names[i] == name {
			return "127.0.0.1:" + a.ports[i]
		}
	}
	return ""
}

func (a *apart) others(name string) (all []string) {
	for _, n := range a.names {
		if n != name {
			all = append(all, n)
		}
	}
	return all
}

func (a *apart) cutOff(name string) {
	for pair, c := range a.cables {
		if pair[0] == name || pair[1] == name {
			c.cut()
		}
	}
}

func (a *apart) join(name string) {
	for pair, c := range a.cables {
		if pair[0] == name || pair[1] == name {
			c.mend()
		}
	}
}
