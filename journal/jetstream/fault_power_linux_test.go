package jetstream_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

const powerCuts = "DORMOUSE_POWER_CUTS" // how many cuts TestPowerCut does; 3 if it is not set

// The power is cut under load, again and again on one folder: whatever was acknowledged is there, and the
// history is whole.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	cuts := 3
	if n, err := strconv.Atoi(os.Getenv(powerCuts)); err == nil {
		cuts = n
	}
	v := makeVolume(t, filepath.Join(t.TempDir(), "image"), 512<<20)
	dir := filepath.Join(v.dir, "data")
	keys := seal.GenerateKeyring()
	acknowledged := make(map[journal.Position]uint64)
	for range cuts {
		e := guarded(t, dir, 0)
		c := impatient(t, e.Journal, keys)
		l := startLoad(t, c)
		l.acknowledges(t, 1)
		<-time.After(time.Duration(rand.IntN(400)) * time.Millisecond)
		// What is acknowledged from here on nobody would hear. An fsync that is under way as ext4 shuts
		// down may even report success.
		l.mu.Lock()
		for n, pos := range l.acknowledged {
			acknowledged[pos] = n
		}
		l.mu.Unlock()
		v.cutPower(t)
		endLoad(t, l, c)
		e.stop()
		v.mountAgain(t)
		e = guarded(t, dir, 0)
		allThere(t, e.Journal, keys, acknowledged)
		e.stop()
	}
	if len(acknowledged) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	t.Logf("%d power cuts, %d acknowledged events, none lost", cuts, len(acknowledged))
}

// allThere ends the test unless every acknowledged event is where it was said to be, in a whole history.
func allThere(t *testing.T, j *jetstream.Journal, keys *seal.Keyring, acknowledged map[journal.Position]uint64) {
	t.Helper()
	h, err := journaltest.ReadHistory(t.Context(), j, seal.NewBatchOpener(keys), j.ID())
	if err != nil {
		t.Fatal(err)
	}
	for pos, n := range acknowledged {
		if h.Events[pos].Call.Number != n {
			t.Fatalf("event %d was acknowledged at %v, where %+v is", n, pos, h.Events[pos])
		}
	}
}

// The same with a server that syncs every two minutes, as NATS does unless told otherwise: it shows that
// the test above would see a loss.
func TestPowerCutWithoutSync(t *testing.T) {
	t.Parallel()
	v := makeVolume(t, filepath.Join(t.TempDir(), "image"), 512<<20)
	dir := filepath.Join(v.dir, "data")
	s, nc := lazyServer(t, dir)
	j, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	c := impatient(t, j, seal.GenerateKeyring())
	l := startLoad(t, c)
	l.acknowledges(t, 100)
	v.cutPower(t)
	endLoad(t, l, c)
	nc.Close()
	halt(s)
	v.mountAgain(t)
	_, nc = lazyServer(t, dir)
	stored := 0
	if j, err = jetstream.Open(t.Context(), nc, jetstream.Options{}); err == nil {
		all, err := journaltest.ReadAll(t.Context(), j, 0)
		if err != nil {
			t.Log(err)
		}
		stored = len(all)
	} else {
		t.Logf("the journal is gone: %v", err)
	}
	if last := int(c.Stats().Last); stored >= last {
		t.Errorf("%d batches were acknowledged and %d are there: this test sees no loss", last, stored)
	} else {
		t.Logf("%d batches were acknowledged, %d are there", last, stored)
	}
}

// lazyServer starts an embedded server with the default sync_interval.
func lazyServer(t *testing.T, dir string) (*server.Server, *nats.Conn) {
	t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "lazy", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { halt(s) })
	if !s.ReadyForConnections(hung) {
		t.Fatal("the server does not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return s, nc
}

// impatient returns a committer whose callers wait a second at most.
func impatient(t *testing.T, j *jetstream.Journal, keys *seal.Keyring) *commit.Committer {
	t.Helper()
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(keys, w)
	if err != nil {
		t.Fatal(err)
	}
	c, err := commit.New(commit.Options{
		Port: j, Encoder: sealer, Journal: j.ID(), Writer: w,
		AttemptTimeout: 500 * time.Millisecond, MaxWait: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(over(t)) })
	return c
}

func endLoad(t *testing.T, l *load, c *commit.Committer) {
	t.Helper()
	l.end()
	_ = c.Close(over(t)) // what is in doubt stays so
}
