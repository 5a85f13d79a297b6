package jetstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

const (
	killDir   = "DORMOUSE_TEST_KILL_DIR"   // makes the test binary the victim: its data folder
	killRound = "DORMOUSE_TEST_KILL_ROUND" // and the upper half of its events' numbers
	killTimes = "DORMOUSE_KILLS"           // how many kills TestKill does; 5 if it is not set
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if config := os.Getenv(nodeConfig); config != "" {
		if err := node(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// victim appends as fast as it can, prints each acknowledged event's number and position, and waits to
// be killed.
func victim(dir string) error {
	round, err := strconv.ParseUint(os.Getenv(killRound), 10, 32)
	if err != nil {
		return err
	}
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	if err != nil {
		return err
	}
	nc, err := s.Connect()
	if err != nil {
		return err
	}
	j, err := jetstream.Open(context.Background(), nc, jetstream.Options{Create: true})
	if err != nil {
		return err
	}
	keys, _, err := seal.LoadOrCreate(filepath.Join(dir, "keyring"), true)
	if err != nil {
		return err
	}
	w := journal.NewWriterID()
	sealer, err := seal.NewBatchSealer(keys, w)
	if err != nil {
		return err
	}
	c, err := commit.New(commit.Options{Port: j, Encoder: sealer, Journal: j.ID(), Writer: w})
	if err != nil {
		return err
	}
	var numbers atomic.Uint64
	failed := make(chan error)
	for range 8 {
		go func() {
			for {
				n := round<<32 | numbers.Add(1)
				pos, err := c.Append(context.Background(), numbered(n))
				if err != nil {
					failed <- err
				}
				fmt.Printf("%d %v.\n", n, pos) // one write
			}
		}()
	}
	return <-failed
}

func numbered(n uint64) journal.Event {
	return journal.Event{
		Kind: journal.KindAccessed, Ref: journal.Ref{1, byte(n)}, At: journal.InstantOf(time.Now()),
		Call: journal.Call{Number: n, Method: "tools/call", Outcome: journal.OutcomeOK},
	}
}

// TestKill kills a process that appends with SIGKILL, at random moments from its very start, again and
// again on one data folder: whatever it had acknowledged is there, where it said, and the history is whole.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 5
	if n, err := strconv.Atoi(os.Getenv(killTimes)); err == nil {
		kills = n
	}
	dir := t.TempDir()
	h := survivors{acknowledged: make(map[uint64]string)}
	for round := range kills {
		kill(t, dir, round, time.Duration(rand.IntN(600))*time.Millisecond, h.acknowledged)
		e := start(t, dir)
		h.read(t, e)
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
		e.stop()
	}
	if h.total == 0 {
		t.Fatal("nothing was acknowledged")
	}
	h.check(t)
	t.Logf("%d kills, %d acknowledged events of %d, none lost", kills, h.total, len(h.events))
}

// survivors is what was found after the kills so far.
type survivors struct {
	acknowledged map[uint64]string // since the last kill
	total        int
	messages     []journal.Message
	opener       *seal.BatchOpener
	id           journal.ID
	events       map[journal.Position]journal.Event
}

// read checks that what is new in the stream holds what was acknowledged, and that the rest is as before.
func (h *survivors) read(t *testing.T, e *embedded) {
	t.Helper()
	keys, _, err := seal.LoadOrCreate(filepath.Join(e.dir, "keyring"), true)
	if err != nil {
		t.Fatal(err)
	}
	h.opener, h.id = seal.NewBatchOpener(keys), e.ID()
	all, err := journaltest.ReadAll(t.Context(), e, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[uint64]string)
	for i, m := range all {
		if i < len(h.messages) {
			if !bytes.Equal(m.Data, h.messages[i].Data) {
				t.Errorf("batch %d has changed", m.Seq)
			}
			continue
		}
		b, err := h.opener.Open(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		for i, event := range b.Events {
			at[event.Call.Number] = journal.Position{Seq: m.Seq, Index: uint32(i)}.String()
		}
	}
	if len(all) < len(h.messages) {
		t.Errorf("%d batches, there were %d", len(all), len(h.messages))
	}
	for n, pos := range h.acknowledged {
		if at[n] != pos {
			t.Errorf("event %x was acknowledged at %s and is at %q", n, pos, at[n])
		}
	}
	h.messages = all
	h.total += len(h.acknowledged)
	clear(h.acknowledged)
}

// check holds the whole history against the laws.
func (h *survivors) check(t *testing.T) {
	t.Helper()
	history, err := journaltest.CheckHistory(h.messages, h.opener, h.id)
	if err != nil {
		t.Fatal(err)
	}
	h.events = history.Events
	seen := make(map[uint64]bool)
	for pos, event := range h.events {
		if seen[event.Call.Number] {
			t.Errorf("event %x is there twice, also at %v", event.Call.Number, pos)
		}
		seen[event.Call.Number] = true
	}
}

// kill runs a victim for as long as life, and adds what it acknowledged. The first one's life begins with its first
// acknowledgement, so that there is one in every run.
func kill(t *testing.T, dir string, round int, life time.Duration, acknowledged map[uint64]string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), killDir+"="+dir, killRound+"="+strconv.Itoa(round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var timer sync.WaitGroup
	begins := sync.OnceFunc(func() {
		timer.Go(func() {
			<-time.After(life)
			_ = cmd.Process.Signal(syscall.SIGKILL)
		})
	})
	if round > 0 {
		begins()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		begins()
		var n uint64
		var pos string
		// The point at the end tells a whole line from one that was cut off.
		if _, err := fmt.Sscanf(lines.Text(), "%d %s", &n, &pos); err == nil && pos[len(pos)-1] == '.' {
			acknowledged[n] = pos[:len(pos)-1]
		}
	}
	timer.Wait()
	_ = cmd.Wait() // "signal: killed"
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Fatalf("the victim ended by itself: %v", cmd.ProcessState)
	}
}
