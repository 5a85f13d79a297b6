package replay_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/replaytest"
)

// touched is the least that a batch can say.
func touched() journal.Event { return journal.Event{Kind: journal.KindTouched, Ref: ref} }

// writerOf returns a writer that begins, or goes on, with number.
func writerOf(id byte, number uint64) *replaytest.Writer {
	return &replaytest.Writer{Journal: journal.ID{1}, ID: journal.WriterID{id}, Number: number - 1}
}

func TestDamageIsNamedAndChangesNothing(t *testing.T) {
	at := touched()
	at.At = replaytest.Start
	for name, c := range map[string]struct {
		want   string
		batch  func(s *scene) []byte
		tamper func(m *journal.Message, b *journal.Batch)
	}{
		"another journal": {want: "belongs to journal 0900", batch: func(*scene) []byte {
			w := writerOf(1, 3)
			w.Journal = journal.ID{9}
			return w.Batch(journal.Basis{}, at)
		}},
		"hole in the stream": {want: "messages 3 to 4 are missing", tamper: func(m *journal.Message, _ *journal.Batch) { m.Seq = 5 }},
		"events lost":        {want: "holds 1 events where its header says 2", tamper: func(_ *journal.Message, b *journal.Batch) { b.Count = 2 }},
		"number zero":        {want: "numbered from 1", tamper: func(_ *journal.Message, b *journal.Batch) { b.Number = 0 }},
		"hole in the chain": {want: "batches 3 to 4 are missing", batch: func(s *scene) []byte {
			s.writer.Number += 2
			return s.writer.Batch(journal.Basis{}, at)
		}},
		"unknown writer in the middle": {want: "before number 7 are missing", batch: func(*scene) []byte {
			return writerOf(2, 7).Batch(journal.Basis{}, at)
		}},
		"first batch with a past": {want: "names a previous one", batch: func(*scene) []byte {
			w := writerOf(2, 1)
			w.Previous = journal.Digest{1}
			return w.Batch(journal.Basis{}, at)
		}},
		"broken chain": {want: "previous batch is not the one", batch: func(s *scene) []byte {
			s.writer.Previous = journal.Digest{1}
			return s.writer.Batch(journal.Basis{}, at)
		}},
		"forked chain": {want: "two different batches", batch: func(s *scene) []byte {
			s.writer.Number--
			return s.writer.Batch(journal.Basis{}, at)
		}},
		"basis from the future": {want: "up to message 3, which", batch: func(s *scene) []byte {
			return s.writer.Batch(journal.Basis{Seq: 3, Root: s.state.Root()}, at)
		}},
		"another history": {want: "another history up to message 1", batch: func(s *scene) []byte {
			return s.writer.Batch(journal.Basis{Seq: 1, Root: s.state.Root()}, at)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fold(created())
			s.fold(touched())
			m := journal.Message{Seq: 3, Time: s.now}
			if c.batch == nil {
				m.Data = s.writer.Batch(journal.Basis{}, at)
			} else {
				m.Data = c.batch(s)
			}
			b := openPlain(t, m)
			if c.tamper != nil {
				c.tamper(&m, b)
			}
			before := s.state.Digest()
			err := s.state.Apply(m, b)
			if !errors.Is(err, journal.ErrDamaged) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			var at *replay.DamageError
			if errors.As(err, &at) && (at.Seq != 3 || at.Writer != b.Writer || at.Number != b.Number) {
				t.Errorf("the place is wrong: %+v", at)
			}
			if s.state.Digest() != before {
				t.Errorf("the state changed")
			}
		})
	}
}

func TestRootIsRFC6962(t *testing.T) {
	s := newScene(t)
	if s.state.Root() != (journal.Root{}) {
		t.Fatalf("root before the first batch: %x", s.state.Root())
	}
	var digests []journal.Digest
	for range 70 {
		m := s.message(touched())
		apply(t, s.state, m)
		digests = append(digests, journal.DigestOf(m.Data))
		if got := s.state.Root(); !bytes.Equal(got[:], naiveRoot(digests)) {
			t.Fatalf("root over %d batches differs from the definition", len(digests))
		}
	}
}

// naiveRoot is MTH of RFC 6962, section 2.1.
func naiveRoot(d []journal.Digest) []byte {
	if len(d) == 1 {
		return rfc6962.DefaultHasher.HashLeaf(d[0][:])
	}
	split := 1
	for split*2 < len(d) {
		split *= 2
	}
	return rfc6962.DefaultHasher.HashChildren(naiveRoot(d[:split]), naiveRoot(d[split:]))
}

func TestBasisIsCheckedWithinTheWindow(t *testing.T) {
	const window = 1 << 16
	s := newScene(t)
	var roots []journal.Root
	for range window + 10 {
		s.fold(touched())
		roots = append(roots, s.state.Root())
	}
	wrong := func(seq journal.Seq) error {
		w := writerOf(2, 1)
		m := journal.Message{Seq: s.state.Seq() + 1, Time: s.now, Data: w.Batch(journal.Basis{Seq: seq, Root: journal.Root{1}}, touched())}
		return s.state.Apply(m, openPlain(t, m))
	}
	for _, seq := range []journal.Seq{11, 12, window, window + 1, window + 10} {
		if err := wrong(seq); !errors.Is(err, journal.ErrDamaged) {
			t.Fatalf("wrong root of message %d: %v", seq, err)
		}
	}
	if err := wrong(10); err != nil {
		t.Fatalf("a basis older than what is known is no alarm: %v", err)
	}
	w := writerOf(3, 1)
	m := journal.Message{Seq: s.state.Seq() + 1, Time: s.now, Data: w.Batch(journal.Basis{Seq: 12, Root: roots[11]}, touched())}
	apply(t, s.state, m)
}

func TestWritersAreForgotten(t *testing.T) {
	for name, c := range map[string]struct {
		last   journal.Event
		memory time.Duration
	}{
		"silent":  {touched(), replay.WriterMemory},
		"stopped": {journal.Event{Kind: journal.KindReplicaStopped, Note: &journal.Note{}}, replay.StoppedMemory},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			first := s.message(created(), closed(journal.ReasonClient, 0))
			apply(t, s.state, first)
			s.want(replay.RefusedEnded, touched())
			s.fold(c.last)
			old := s.writer

			s.pass(c.memory - 25*time.Hour)
			s.writer = writerOf(2, 1)
			s.fold(touched())
			again := journal.Message{Seq: s.state.Seq() + 1, Time: s.now, Data: first.Data}
			if got := verdicts(t, s.state, again)[0]; got != replay.RefusedRepeated {
				t.Fatalf("remembered: %q", got)
			}
			s.pass(26 * time.Hour)
			s.fold(touched())

			again.Seq, again.Time = s.state.Seq()+1, s.now
			if got := verdicts(t, s.state, again)[0]; got != replay.RefusedWriter {
				t.Fatalf("an old first batch, stored again: %q", got)
			}
			s.writer = old
			s.want(replay.RefusedWriter, touched())
			s.writer = writerOf(3, 1)
			s.want("", created())
		})
	}
}
