package jetstream_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/commit"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// guarded starts a server that leaves minFree bytes free, and opens the journal as the daemon does.
func guarded(t *testing.T, dir string, minFree int64) *embedded {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, MinFree: minFree})
	if err != nil {
		t.Fatal(err)
	}
	e := &embedded{dir: dir, server: s}
	t.Cleanup(e.stop)
	if e.nc, err = s.Connect(); err != nil {
		t.Fatal(err)
	}
	if e.Journal, err = jetstream.Open(t.Context(), e.nc, jetstream.Options{Create: true, Guard: s}); err != nil {
		t.Fatal(err)
	}
	return e
}

// onSmallDisk is a journal with callers who note what they were told.
type onSmallDisk struct {
	*embedded
	c            *commit.Committer
	next         uint64
	acknowledged map[uint64]journal.Position
	refused      map[uint64]bool
	posted       int
}

// newOnSmallDisk makes a committer with that commit.Options.MaxWait.
func newOnSmallDisk(t *testing.T, e *embedded, patience time.Duration) *onSmallDisk {
	t.Helper()
	c, err := commit.New(commit.Options{
		Port: e.Journal, Encoder: journaltest.Codec{}, Journal: e.ID(), Writer: journal.NewWriterID(),
		AttemptTimeout: patience / 2, MaxWait: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(over(t)) })
	return &onSmallDisk{embedded: e, c: c, acknowledged: make(map[uint64]journal.Position), refused: make(map[uint64]bool)}
}

// append appends a large event. Whatever happens, its caller gets to know.
func (d *onSmallDisk) append(t *testing.T) error {
	t.Helper()
	d.next++
	e := numbered(d.next)
	e.Call.Tool = strings.Repeat("x", 100_000)
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	defer cancel()
	pos, err := d.c.Append(ctx, e)
	if ctx.Err() != nil {
		t.Errorf("append %d waits for ever", d.next)
	}
	switch {
	case err == nil:
		d.acknowledged[d.next] = pos
	case errors.Is(err, journal.ErrOutcomeUnknown):
	case errors.Is(err, journal.ErrUnavailable):
		d.refused[d.next] = true
	default:
		t.Errorf("append %d: %v", d.next, err)
	}
	return err
}

// untilFailed appends until the store has failed; a busy machine alone may make a caller give up, too.
func (d *onSmallDisk) untilFailed(t *testing.T) {
	t.Helper()
	for range 1000 {
		err := d.append(t)
		if err == nil {
			continue
		}
		t.Logf("append: %v", err)
		for began := time.Now(); time.Since(began) < 2*time.Second; <-time.After(time.Millisecond) {
			if errors.Is(d.server.Trust(), jetstream.ErrStoreFailed) {
				return
			}
		}
	}
	t.Fatal("the store never fails")
}

// untilRefused appends until that fails, and returns how.
func (d *onSmallDisk) untilRefused(t *testing.T) error {
	t.Helper()
	for range 1000 {
		if err := d.append(t); err != nil {
			return err
		}
	}
	t.Fatal("the disk is never full")
	return nil
}

// post hands over accesses, which wait.
func (d *onSmallDisk) post() {
	for range 100 {
		d.next++
		d.posted++
		d.c.Post(numbered(d.next))
	}
}

// untilTaken appends until that works again.
func (d *onSmallDisk) untilTaken(t *testing.T) {
	t.Helper()
	began := time.Now()
	for d.append(t) != nil {
		if time.Since(began) > hung {
			t.Fatal("appends do not go on")
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Logf("appends go on %v after there was room", time.Since(began).Round(time.Millisecond))
}

// readable checks that what was acknowledged can be read now.
func (d *onSmallDisk) readable(t *testing.T) {
	t.Helper()
	d.check(t, d.Journal)
}

// end closes everything but what is on disk.
func (d *onSmallDisk) end(t *testing.T) {
	t.Helper()
	if err := d.c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if s := d.c.Stats(); s.Lost+s.Superseded != 0 || s.Unsaved != 0 {
		t.Errorf("%+v", s)
	}
	d.stop()
}

// check holds what callers were told against what is stored, and returns how many events that are.
func (d *onSmallDisk) check(t *testing.T, j *jetstream.Journal) int {
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
		if d.refused[e.Call.Number] {
			t.Errorf("event %d was refused and is at %v", e.Call.Number, pos)
		}
	}
	for n, pos := range d.acknowledged {
		if at[n] != pos {
			t.Errorf("event %d was acknowledged at %v and is at %v", n, pos, at[n])
		}
	}
	return len(h.Events)
}

// Appends stop before the disk is full, so that nothing breaks: callers know at once that nothing was
// stored and why, accesses wait, readers read, and all goes on as soon as there is room.
func TestDiskAlmostFull(t *testing.T) {
	t.Parallel()
	disk := ramDisk(t, 12<<20)
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast, 4<<20)
	d := newOnSmallDisk(t, guarded(t, filepath.Join(disk, "data"), 2<<20), hung/2)
	if err := d.untilRefused(t); !errors.Is(err, jetstream.ErrDiskFull) || errors.Is(err, journal.ErrOutcomeUnknown) {
		t.Errorf("append: %v", err)
	}
	if err := d.Keys().Create(t.Context(), seal.KeyName{Key: "k", Wrap: "w"}, make([]byte, 200_000)); !errors.Is(err, jetstream.ErrDiskFull) {
		t.Errorf("create key: %v", err)
	}
	if err := d.server.Trust(); err != nil {
		t.Errorf("the store failed: %v", err)
	}
	d.post()
	d.readable(t)
	free(t, ballast)
	d.untilTaken(t)
	d.end(t)
	if n := d.check(t, guarded(t, d.dir, 2<<20).Journal); n != len(d.acknowledged)+d.posted {
		t.Errorf("%d events, %d acknowledged, %d posted", n, len(d.acknowledged), d.posted)
	}
}

// Somebody else fills the disk to the last byte while a batch is written: JetStream then takes nothing
// until it is started again, which happens by itself.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := ramDisk(t, 12<<20)
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast, 8<<20)
	d := newOnSmallDisk(t, guarded(t, filepath.Join(disk, "data"), -1), 2*time.Second)
	f := follow(t, d.Journal)
	d.untilFailed(t)
	for range 3 {
		if err := d.append(t); !errors.Is(err, journal.ErrUnavailable) {
			t.Errorf("append: %v", err)
		}
	}
	d.post()
	d.readable(t)
	free(t, ballast)
	d.untilTaken(t)
	f.reaches(t, d.c.Stats().Last)
	f.end(t)
	d.end(t)
	d.check(t, guarded(t, d.dir, -1).Journal)
	t.Logf("%d acknowledged, %d refused, %+v", len(d.acknowledged), len(d.refused), d.c.Stats())
}

// A sync fails, as on a volume that promised more than its pool has: the message is in memory and in the
// page cache, and JetStream shows it. Whoever believes that acknowledges what a power cut takes away.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	pool := ramDisk(t, 12<<20)
	v := makeVolume(t, filepath.Join(pool, "image"), 64<<20, "-O", "^has_journal")
	ballast := filepath.Join(pool, "ballast")
	fill(t, ballast, 8<<20)
	d := newOnSmallDisk(t, guarded(t, filepath.Join(v.dir, "data"), -1), 2*time.Second)
	d.untilFailed(t)
	if _, err := d.Last(t.Context(), d.c.Writer()); !errors.Is(err, journal.ErrUnavailable) {
		t.Errorf("last: %v", err)
	}
	d.post()
	d.readable(t)
	free(t, ballast)
	d.untilTaken(t)
	d.end(t)
	v.mountAgain(t)
	d.check(t, guarded(t, d.dir, -1).Journal)
	t.Logf("%d acknowledged, %d refused, %+v", len(d.acknowledged), len(d.refused), d.c.Stats())
}

func free(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
