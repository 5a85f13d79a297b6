package audit_test

import (
	"strings"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
)

// What is lost in a hole is counted by the next mark.
func TestVerifyCountsByMarks(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world)
		want   []string // of the faults, in order
		note   string
	}{
		"begins late": {damage: func(w *world) { w.remove(1) }, want: []string{"at least 1 batch, 3 events, 1 session"}},
		"hole":        {damage: func(w *world) { w.remove(2) }, want: []string{"at least 1 batch, 2 events, 1 session"}},
		"two holes, a mark between": {
			damage: func(w *world) { w.remove(1); w.remove(5) },
			want:   []string{"at least 1 batch, 3 events, 1 session", "at least 1 batch, 2 events"},
			note:   "after message 6, 2 sessions fewer than replica a had are there",
		},
		"two holes in front of a mark": {
			damage: func(w *world) { w.remove(1); w.remove(3) },
			want:   []string{"at least 1 batch, 1 event", "at least 1 batch, 1 event"},
			note:   "between messages 1 and 4, 4 events are lost, by the mark of replica b",
		},
		"around a mark": {
			damage: func(w *world) { w.remove(4); w.remove(5) },
			want:   []string{"at least 2 batches, 3 events, 1 session"},
		},
		"a hole and the end": {
			damage: func(w *world) { w.remove(2); w.journal.Shrink(4) },
			want:   []string{"at least 1 batch, 2 events, 1 session", "at least 2 batches, 3 events"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.start("a"), w.start("b")
			t.Cleanup(a.crash)
			t.Cleanup(b.crash)
			refs := [3]journal.Ref{}
			a.append(w.created(&refs[0]), w.touched(&refs[0]), w.touched(&refs[0])) // 1
			b.append(w.created(&refs[1]), w.touched(&refs[1]))                      // 2
			a.append(w.touched(&refs[0]))                                           // 3
			b.append(w.touched(&refs[1]))                                           // 4
			b.mark()
			a.append(w.created(&refs[2]), w.touched(&refs[2])) // 5
			a.append(w.touched(&refs[2]))                      // 6
			w.must(a.follower.WaitFor(t.Context(), 6))
			a.mark()
			w.whole()
			c.damage(w)
			for _, headersOnly := range []bool{false, true} {
				r := w.verify(headersOnly)
				if len(r.Faults) != len(c.want) {
					t.Fatal(describe(r))
				}
				for i, want := range c.want {
					if headersOnly {
						want, _, _ = strings.Cut(want, ", 1 session")
					}
					if got := r.Faults[i].String(); !strings.HasSuffix(got, want) {
						t.Errorf("headers only %v: %q lacks %q", headersOnly, got, want)
					}
				}
				if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, c.note) && (!headersOnly || strings.Contains(c.note, "between")) {
					t.Errorf("headers only %v: %q lacks %q", headersOnly, notes, c.note)
				}
			}
		})
	}
}
