package snapshot_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
	"github.com/dormouse-mcp/dormouse/replay/snapshot"
)

// world is a journal in memory, and the state that a replica has folded of it.
type world struct {
	t       *testing.T
	journal *memory.Journal
	store   *memory.Snapshots
	sealer  *seal.Chunks
	writer  replaytest.Writer
	last    journal.Seq

	mu    sync.Mutex
	state *replay.State
}

func newWorld(t *testing.T) *world {
	t.Helper()
	j := memory.New()
	return &world{
		t: t, journal: j, store: j.Snapshots(), sealer: seal.NewChunks(seal.GenerateKeyring()), state: replay.NewState(),
		writer: replaytest.Writer{Journal: j.ID(), ID: journal.WriterID{1}},
	}
}

func (w *world) Freeze() *replay.Frozen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Freeze()
}

func (w *world) View(fn func(*replay.State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(w.state)
}

// put stores a batch with a new session and folds it.
func (w *world) put() {
	w.t.Helper()
	e := journal.Event{Kind: journal.KindCreated, Ref: replaytest.Ref(int(w.last)), At: journal.InstantOf(time.Now()), Created: &journal.Created{
		Source: journal.SourceClient, ID: journal.Sealed("sealed"), Timeout: replay.MaxTimeout, CreatedAt: journal.InstantOf(time.Now()),
	}}
	seq, err := w.journal.Publish(w.t.Context(), w.writer.ID, w.last, w.writer.Batch(journal.Basis{}, e))
	must(w.t, err)
	w.last = seq
	m, err := w.journal.Last(w.t.Context(), w.writer.ID)
	must(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	apply(w.t, w.state, m)
}

func (w *world) puts(n int) {
	w.t.Helper()
	for range n {
		w.put()
	}
}

func (w *world) keeper(o snapshot.KeeperOptions) *snapshot.Keeper {
	w.t.Helper()
	o.Store, o.Sealer, o.Table, o.Stream = w.store, w.sealer, w, w.journal
	k, err := snapshot.NewKeeper(o)
	must(w.t, err)
	return k
}

func (w *world) take(k *snapshot.Keeper) snapshot.Report {
	w.t.Helper()
	r, err := k.Take(w.t.Context())
	must(w.t, err)
	return r
}

func (w *world) restore() (*snapshot.Restored, error) {
	w.t.Helper()
	b, err := w.journal.Bounds(w.t.Context())
	must(w.t, err)
	return snapshot.Restore(w.t.Context(), snapshot.RestoreOptions{Store: w.store, Sealer: w.sealer, Journal: w.journal.ID(), Bounds: b})
}

// seqs are those of the complete snapshots, newest first.
func (w *world) seqs() (out []journal.Seq) {
	w.t.Helper()
	list, err := snapshot.List(w.t.Context(), w.store)
	must(w.t, err)
	for _, m := range list {
		out = append(out, m.Seq)
	}
	return out
}

func wantSeqs(t *testing.T, got []journal.Seq, want ...journal.Seq) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("snapshots at %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("snapshots at %v, want %v", got, want)
		}
	}
}

func TestTwoAreKept(t *testing.T) {
	w := newWorld(t)
	k := w.keeper(snapshot.KeeperOptions{})
	for range 4 {
		w.put()
		w.take(k)
	}
	wantSeqs(t, w.seqs(), 4, 3)
	if r, err := w.restore(); err != nil || r.State.Digest() != w.state.Digest() || len(r.Passed) != 0 {
		t.Errorf("restored %+v, %v", r, err)
	}
}

func TestBadOnesArePassedOver(t *testing.T) {
	w := newWorld(t)
	k := w.keeper(snapshot.KeeperOptions{})
	w.puts(3)
	older := w.take(k)
	digest := w.state.Digest()
	w.put()
	newer := w.take(k)
	w.store.Damage(newer.ID, 1, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	r, err := w.restore()
	if err != nil || r.State.Digest() != digest || len(r.Passed) != 1 || r.Passed[0].ID != newer.ID || !errors.Is(r.Passed[0].Err, journal.ErrWrongKey) {
		t.Fatalf("restored %+v, %v", r, err)
	}
	w.store.Damage(older.ID, 0, func([]byte) []byte { return []byte("junk") })
	if r, err = w.restore(); err != nil || r.State != nil || len(r.Passed) != 2 {
		t.Fatalf("restored %+v, %v", r, err)
	}
	w.store.SetDown(true)
	if _, err = w.restore(); !errors.Is(err, journal.ErrUnavailable) {
		t.Fatalf("with the store down: %v", err)
	}
}

// A stream that is shorter than the snapshot has lost its end: an older snapshot would hide that.
func TestStreamThatEndsBefore(t *testing.T) {
	w := newWorld(t)
	k := w.keeper(snapshot.KeeperOptions{})
	w.put()
	w.take(k)
	w.put()
	w.take(k)
	_, err := snapshot.Restore(t.Context(), snapshot.RestoreOptions{
		Store: w.store, Sealer: w.sealer, Journal: w.journal.ID(), Bounds: journal.Bounds{First: 1, Last: 1},
	})
	if !errors.Is(err, snapshot.ErrAhead) {
		t.Fatalf("%v", err)
	}
	// Unless that was accepted.
	r, err := snapshot.Restore(t.Context(), snapshot.RestoreOptions{
		Store: w.store, Sealer: w.sealer, Journal: w.journal.ID(), Bounds: journal.Bounds{First: 1, Last: 1},
		Losses: []journal.Loss{{Number: 1, Kind: journal.LossTail, From: 2, To: 2}},
	})
	if err != nil || r.State.Seq() != 1 || len(r.Passed) != 1 || !errors.Is(r.Passed[0].Err, replay.ErrFolded) {
		t.Fatalf("restored %+v, %v", r, err)
	}
	if r, err = snapshot.Restore(t.Context(), snapshot.RestoreOptions{
		Store: w.store, Sealer: w.sealer, Journal: journal.ID{9}, Bounds: journal.Bounds{First: 1, Last: 2},
	}); err != nil || r.State != nil || !errors.Is(r.Passed[0].Err, snapshot.ErrForeign) {
		t.Fatalf("of another journal: %+v, %v", r, err)
	}
}

func TestTakenWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.keeper(snapshot.KeeperOptions{EveryMessages: 10, EveryTime: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(ctx) })
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		w.puts(9)
		pass(time.Minute)
		wantSeqs(t, w.seqs())
		w.puts(1)
		pass(time.Minute)
		wantSeqs(t, w.seqs(), 10)
		w.puts(1)
		pass(30 * time.Minute)
		wantSeqs(t, w.seqs(), 10)
		pass(31 * time.Minute)
		wantSeqs(t, w.seqs(), 11, 10)
		pass(3 * time.Hour) // nothing changes
		wantSeqs(t, w.seqs(), 11, 10)

		// Another replica takes one: this one need not.
		other := w.keeper(snapshot.KeeperOptions{})
		w.puts(9)
		w.take(other)
		w.puts(1)
		pass(time.Minute)
		wantSeqs(t, w.seqs(), 20, 11)
		cancel()
		wg.Wait()
	})
}

// While another replica is at it, this one waits; if that one dies, this one cleans up after it.
func TestInterruptedTaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		must(t, w.store.PutChunk(t.Context(), journal.SnapshotID{1}, 1, []byte("chunk")))
		k := w.keeper(snapshot.KeeperOptions{EveryMessages: 1})
		w.put()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(ctx) })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		wantSeqs(t, w.seqs())
		time.Sleep(time.Minute)
		synctest.Wait()
		wantSeqs(t, w.seqs(), 1)
		w.put()
		time.Sleep(10 * time.Minute)
		w.put()
		time.Sleep(time.Minute)
		synctest.Wait()
		if all, err := w.store.Snapshots(t.Context()); err != nil || len(all) != 2 {
			t.Errorf("%d snapshots are stored, want 2: %v", len(all), err)
		}
		cancel()
		wg.Wait()
	})
}

func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.keeper(snapshot.KeeperOptions{Retention: 24 * time.Hour})
		first := func(want journal.Seq) {
			t.Helper()
			if b, err := w.journal.Bounds(t.Context()); err != nil || b.First != want {
				t.Fatalf("the stream begins at %d, want %d: %v", b.First, want, err)
			}
		}
		w.puts(5)
		time.Sleep(20 * time.Hour)
		w.puts(5)
		w.take(k)
		first(1)
		time.Sleep(5 * time.Hour)
		w.puts(5)
		w.take(k) // the first five are older than a day
		first(6)
		time.Sleep(100 * time.Hour)
		w.put()
		w.take(k) // the older snapshot holds up to 15
		first(16)
		if r, err := w.restore(); err != nil || r.State.Len() != 16 || r.State.Digest() != w.state.Digest() {
			t.Fatalf("restored %+v, %v", r, err)
		}
		// A bad snapshot stops the trim, and is removed.
		w.put()
		list, err := snapshot.List(t.Context(), w.store)
		must(t, err)
		w.store.Damage(list[0].ID, 1, func(b []byte) []byte { b[20] ^= 1; return b })
		time.Sleep(100 * time.Hour)
		w.put()
		if _, err := k.Take(t.Context()); !errors.Is(err, journal.ErrWrongKey) {
			t.Fatalf("%v", err)
		}
		first(16)
		wantSeqs(t, w.seqs(), 18)
	})
}

// Without a retention the stream keeps everything, however old.
func TestNoRetentionKeepsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.keeper(snapshot.KeeperOptions{})
		for range 4 {
			w.puts(5)
			time.Sleep(1000 * time.Hour)
			w.take(k)
		}
		if b, err := w.journal.Bounds(t.Context()); err != nil || b.First != 1 || b.Last != 20 {
			t.Fatalf("%+v, %v", b, err)
		}
	})
}

func TestSkippedEventsTakeNoSnapshot(t *testing.T) {
	w := newWorld(t)
	w.put()
	e := journal.Event{Kind: journal.LastKind + 1, At: 1}
	b := &journal.Batch{Header: journal.Header{Journal: w.journal.ID(), Writer: journal.WriterID{2}, Number: 1, Count: 1}, Events: []journal.Event{e}}
	must(t, w.state.Apply(journal.Message{Seq: w.state.Seq() + 1, Time: 1}, b))
	if _, err := w.keeper(snapshot.KeeperOptions{}).Take(t.Context()); !errors.Is(err, snapshot.ErrSkipped) {
		t.Fatalf("%v", err)
	}
}
