package audit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// history lets replicas come, write, crash and stop at random.
func history(t *rapid.T, w *world) (running []*replica) {
	var refs []journal.Ref
	steps := rapid.IntRange(1, 25).Draw(t, "steps")
	for range steps {
		if len(running) == 0 {
			running = append(running, w.start(rapid.SampledFrom([]journal.ReplicaID{"a", "b"}).Draw(t, "name")))
		}
		i := rapid.IntRange(0, len(running)-1).Draw(t, "replica")
		r := running[i]
		switch rapid.IntRange(0, 11).Draw(t, "step") {
		case 0, 1, 2:
			refs = append(refs, r.create())
		case 3, 4, 5, 6:
			if len(refs) > 0 {
				r.access(rapid.SampledFrom(refs).Draw(t, "session"))
			}
		case 7:
			r.mark()
		case 8:
			r.crash()
			running = slices.Delete(running, i, i+1)
		case 9:
			r.stop()
			running = slices.Delete(running, i, i+1)
		case 10:
			if len(running) < 3 {
				running = append(running, w.start("c"))
			}
		case 11:
			w.journal.Duplicate(rapid.IntRange(1, 3).Draw(t, "duplicates"))
		}
	}
	return running
}

// troubled makes publishing fail now and then, in ways that a committer settles.
func troubled(w *world, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	w.journal.Inject(func(journal.WriterID) memory.Fault {
		switch random.IntN(8) {
		case 0:
			return memory.Fault{Kind: memory.LostAck}
		case 1:
			return memory.Fault{Kind: memory.LostMessage}
		case 2:
			return memory.Fault{Kind: memory.LateMessage, Late: time.Duration(random.IntN(3)) * time.Millisecond}
		default:
			return memory.Fault{}
		}
	})
}

// Crashes, lost answers, late messages, repeated deliveries, restarts and trims behind a snapshot are no damage.
func TestLawNoFalseAlarm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		troubled(w, rapid.Uint64().Draw(rt, "seed"))
		for range rapid.IntRange(1, 3).Draw(rt, "trims") {
			for _, r := range history(rt, w) {
				r.crash()
			}
			w.whole()
			w.start("z").stop()
			w.whole()
			bounds, err := w.journal.Bounds(t.Context())
			w.must(err)
			held := journal.Seq(rapid.Uint64Range(uint64(w.held), uint64(bounds.Last)).Draw(rt, "snapshot"))
			w.trim(held, journal.Seq(rapid.Uint64Range(0, uint64(bounds.Last)+1).Draw(rt, "trim")))
			w.whole()
		}
	})
}

// Whatever is lost, flipped, exchanged or put in again below a mark: either the fold is that of the whole
// history, or a restart refuses; verify names each place; what is accepted is no more than what was damaged; and then
// everything is whole again, for every reader.
func TestLawNoSilentLoss(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for _, r := range history(rt, w) {
			r.crash()
		}
		last := w.start("marker")
		last.create()
		last.mark()
		want := digest(last)
		last.crash()
		for range 2 { // damage, acceptance, and once more
			damaged, moved := w.damage(rt)
			report, err := w.tryVerify(false)
			if errors.Is(err, journal.ErrWrongKey) || errors.Is(err, journal.ErrKeyMissing) {
				return // no batch is left that opens: nobody can tell that from the wrong keyring
			}
			w.must(err)
			r, err := w.boot("z")
			if err == nil {
				if digest(r) != want {
					rt.Fatalf("silent loss of %v: %s", damaged, describe(report))
				}
				r.crash()
			}
			if (err == nil) != report.Whole() {
				rt.Fatalf("restart says %v, verify says %s", err, describe(report))
			}
			for _, seq := range damaged {
				if !named(report, seq) {
					rt.Fatalf("message %d of %v is not named: %s", seq, damaged, describe(report))
				}
			}
			for _, seq := range moved {
				// Behind a fault, batches that changed places may go unnamed; the report says so.
				if !named(report, seq) && len(report.Notes) == 0 {
					rt.Fatalf("message %d of %v is not named: %s", seq, moved, describe(report))
				}
			}
			for _, l := range report.Losses() {
				for seq := l.From; l.Kind == journal.LossHole && seq <= l.To; seq++ {
					if !slices.Contains(damaged, seq) && !slices.Contains(moved, seq) {
						rt.Fatalf("message %d would be lost for nothing; damaged: %v: %s", seq, damaged, describe(report))
					}
				}
			}
			r = w.accept(report)
			r.create()
			r.mark()
			want = digest(r)
			r.crash()
			w.whole()
		}
	})
}

func named(r *audit.Report, seq journal.Seq) bool {
	return slices.ContainsFunc(r.Faults, func(f audit.Fault) bool { return f.From <= seq && seq <= max(f.To, f.Noticed) })
}

func digest(r *replica) (d journal.Digest) {
	r.follower.View(func(s *replay.State) { d = s.Digest() })
	return d
}

// damage harms the stored messages and returns the sequences of those that are gone or are no batches any more, and of
// those where another batch stands.
func (w *world) damage(t *rapid.T) (damaged, moved []journal.Seq) {
	bounds, err := w.journal.Bounds(context.Background())
	w.must(err)
	before, written := map[journal.Seq]string{}, map[string]bool{}
	there := w.present(bounds.Last)
	for _, seq := range there {
		before[seq] = string(w.stored(seq).Data)
		written[before[seq]] = true
	}
	last := bounds.Last
	for range rapid.IntRange(0, 3).Draw(t, "faults") {
		if len(there) == 0 {
			break
		}
		seq, other := rapid.SampledFrom(there).Draw(t, "message"), rapid.SampledFrom(there).Draw(t, "other")
		switch rapid.IntRange(0, 4).Draw(t, "fault") {
		case 0:
			w.remove(seq)
			there = slices.DeleteFunc(there, func(s journal.Seq) bool { return s == seq })
		case 1:
			w.flip(seq, rapid.Float64Range(0, 1).Draw(t, "place"))
		case 2:
			x, y := w.stored(seq).Data, w.stored(other).Data
			w.put(seq, y)
			w.put(other, x)
		case 3:
			w.put(seq, w.stored(other).Data)
		case 4:
			w.journal.Shrink(seq)
			last = seq
			there = slices.DeleteFunc(there, func(s journal.Seq) bool { return s > seq })
		}
	}
	for seq, data := range before {
		switch is := slices.Contains(there, seq); {
		case !is:
			damaged = append(damaged, seq)
		case string(w.stored(seq).Data) == data:
		case written[string(w.stored(seq).Data)]:
			moved = append(moved, seq)
		default:
			damaged = append(damaged, seq)
		}
	}
	for seq := last + 1; seq <= bounds.Last; seq++ {
		damaged = append(damaged, seq) // among them may be holes that were accepted before
	}
	return damaged, moved
}

// present returns the messages that are there.
func (w *world) present(last journal.Seq) (there []journal.Seq) {
	losses, _ := w.known()
	src := replay.Over(w.journal, losses)
	end := replay.LastRead(last, losses)
	if end == 0 {
		return nil
	}
	w.must(src.Read(context.Background(), 0, func(m journal.Message) error {
		there = append(there, m.Seq)
		if m.Seq >= end {
			return journal.ErrStop
		}
		return nil
	}))
	return there
}
