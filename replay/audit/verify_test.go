package audit_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
	"github.com/dormouse-mcp/dormouse/replay"
	"github.com/dormouse-mcp/dormouse/replay/audit"
)

// busy is a world in which two replicas have written ten batches in turn, a's being the odd ones, and one session
// was created with each of the first two.
func busy(t *testing.T) (w *world, a, b *replica) {
	t.Helper()
	w = newWorld(t)
	a = w.start("a")
	t.Cleanup(a.crash)
	b = w.start("b")
	t.Cleanup(b.crash)
	refs := []journal.Ref{a.create(), b.create()}
	for range 4 {
		a.access(refs[0])
		b.access(refs[1])
	}
	return w, a, b
}

func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world)
		want   []string // the faults: kind, place and words of the description
		blind  bool     // cannot be seen in the headers
	}{
		"whole": {damage: func(*world) {}},
		"hole": {
			damage: func(w *world) { w.remove(4) },
			want:   []string{"missing message 4: missing from the stream; batch 2 of writer; stored between; 1 batch, 1 event"},
		},
		"hole with creations": {
			damage: func(w *world) { w.remove(1); w.remove(2) },
			want:   []string{"missing messages 1 to 2; stored before; 2 batches"},
		},
		"hole at the end": {
			damage: func(w *world) { w.remove(10); w.remove(9) },
			want:   []string{"missing messages 9 to 10; stored after; 2 batches"},
		},
		"two holes": {
			damage: func(w *world) { w.remove(3); w.remove(7) },
			want:   []string{"missing message 3", "missing message 7"},
		},
		"flipped bit in what is sealed": {
			damage: func(w *world) { w.flip(5, 0.9) },
			want:   []string{"unreadable message 5: does not open under its key; batch 3 of writer"},
		},
		"not even a header": {
			damage: func(w *world) { w.put(5, []byte("garbage")) },
			want:   []string{"unreadable message 5: malformed"},
		},
		"another batch in its place": {
			damage: func(w *world) { w.put(5, w.stored(3).Data) },
			want:   []string{"changed message 5: an old batch stands where another one was"},
		},
		"re-ordered": {
			damage: func(w *world) {
				x, y := w.stored(4).Data, w.stored(6).Data
				w.put(4, y)
				w.put(6, x)
			},
			want: []string{"changed"},
		},
		"of another journal": {
			damage: func(w *world) {
				other := newWorld(w.t)
				other.keys, other.opener = w.keys, w.opener
				r := other.start("other")
				defer r.crash()
				r.create()
				w.put(5, other.stored(1).Data)
			},
			want: []string{"foreign message 5: belongs to journal"},
		},
		"forged with the key": {
			damage: func(w *world) { w.put(10, w.forge(11)) },
			want:   []string{"changed messages 1 to 9: batches before number 11 are missing"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := busy(t)
			w.whole()
			c.damage(w)
			for _, headersOnly := range []bool{false, true} {
				r := w.verify(headersOnly)
				checkFaults(t, r, c.want, headersOnly)
				if strings.HasPrefix(r.Verdict, "DAMAGED") == (len(c.want) == 0) {
					t.Errorf("verdict %q", r.Verdict)
				}
			}
			if len(c.want) == 0 {
				return
			}
			if _, err := w.boot("c"); err == nil {
				t.Fatal("restored all the same")
			}
			w.accept(w.verify(false)).crash()
			if r := w.verify(false); !r.Whole() || !strings.HasPrefix(r.Verdict, "whole but for the accepted losses (") {
				t.Errorf("after the acceptance: %s", describe(r))
			}
			again := w.start("c")
			again.create()
			again.crash()
			w.whole()
		})
	}
}

// A stream that was trimmed behind a snapshot is whole; one that begins later than any snapshot ends is not.
func TestVerifyTrimmed(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot, first, hole journal.Seq
		want                  string
	}{
		"trimmed":              {snapshot: 6, first: 4},
		"up to the snapshot":   {snapshot: 6, first: 7},
		"everything":           {snapshot: 10, first: 11},
		"too far":              {snapshot: 4, first: 8, want: "begins-late messages 5 to 7"},
		"without a snapshot":   {first: 4, want: "begins-late messages 1 to 3"},
		"hole in front":        {snapshot: 6, first: 3, hole: 5, want: "missing message 5"},
		"hole behind":          {snapshot: 4, first: 3, hole: 8, want: "missing message 8"},
		"hole at the snapshot": {snapshot: 5, first: 3, hole: 5, want: "missing message 5"},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, _ := busy(t)
			a.mark()
			state := w.fold(c.snapshot)
			w.must(w.journal.Trim(t.Context(), c.first))
			if c.hole > 0 {
				w.remove(c.hole)
			}
			losses, marks := w.known()
			r, err := audit.Verify(t.Context(), audit.VerifyOptions{
				Source: w.journal, Opener: w.opener, Journal: w.journal.ID(), State: state, Losses: losses, Marks: marks,
			})
			w.must(err)
			if c.want == "" && !r.Whole() || c.want != "" && len(r.Faults) != 1 {
				t.Fatal(describe(r))
			}
			if c.want != "" && !strings.Contains(describe(r), c.want) {
				t.Errorf("want %s: %s", c.want, describe(r))
			}
		})
	}
}

// fold returns the state up to a message; nil for zero.
func (w *world) fold(seq journal.Seq) *replay.State {
	if seq == 0 {
		return nil
	}
	s, err := replay.Fold(context.Background(), replay.FoldOptions{
		Source: w.journal, Opener: w.opener, Until: func(m journal.Message) bool { return m.Seq > seq },
	})
	w.must(err)
	return s
}

func checkFaults(t *testing.T, r *audit.Report, want []string, headersOnly bool) {
	t.Helper()
	if headersOnly && len(want) == 1 && strings.Contains(want[0], "does not open") {
		want = []string{"changed message"} // noticed by the writer's next batch
	}
	if len(want) != len(r.Faults) && !slices.Equal(want, []string{"changed"}) {
		t.Fatalf("headers only %v: want %d faults: %s", headersOnly, len(want), describe(r))
	}
	for i, words := range want {
		got := string(r.Faults[i].Kind) + " " + r.Faults[i].String()
		for part := range strings.SplitSeq(words, "; ") {
			for word := range strings.SplitSeq(part, ": ") {
				if !strings.Contains(got, word) {
					t.Errorf("headers only %v: %q lacks %q", headersOnly, got, word)
				}
			}
		}
	}
}

func (w *world) remove(seq journal.Seq) { w.must(w.journal.Remove(context.Background(), seq)) }

func (w *world) put(seq journal.Seq, data []byte) { w.must(w.journal.Replace(seq, data)) }

// flip inverts a bit of a stored message, at a place between 0 and 1.
func (w *world) flip(seq journal.Seq, at float64) {
	data := slices.Clone(w.stored(seq).Data)
	data[int(at*float64(len(data)-1))] ^= 4
	w.put(seq, data)
}

// forge makes a batch as somebody could who has the keys and does not know the chain.
func (w *world) forge(number uint64) []byte {
	id := journal.NewWriterID()
	s, err := seal.NewBatchSealer(w.keys, id)
	w.must(err)
	h := journal.Header{Journal: w.journal.ID(), Writer: id, Number: number, Previous: journal.Digest{1}}
	data, err := s.Encode(&h, []journal.Event{{Kind: journal.KindExported, At: 1, Note: &journal.Note{}}})
	w.must(err)
	return data
}

var (
	_ replay.MarkStore = (*memory.Marks)(nil)
	_ replay.LossStore = (*memory.Marks)(nil)
)
