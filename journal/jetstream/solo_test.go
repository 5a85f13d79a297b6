package jetstream_test

import (
	"errors"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// Two processes that write by turns get what each of them expects, and never what it does not, however they guess at
// the other's absence.
func TestPublishBesideAnotherWriter(t *testing.T) {
	t.Parallel()
	e := start(t, t.TempDir())
	other, err := jetstream.Open(t.Context(), e.nc, jetstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	type side struct {
		j    *jetstream.Journal
		w    journal.WriterID
		last journal.Seq
	}
	sides := []*side{{j: e.Journal, w: journal.NewWriterID()}, {j: other, w: journal.NewWriterID()}}
	want := journal.Seq(0)
	publish := func(s *side) {
		t.Helper()
		want++
		seq, err := s.j.Publish(t.Context(), s.w, s.last, []byte("batch"))
		if err != nil || seq != want {
			t.Fatalf("stored at %d, %v; want %d", seq, err, want)
		}
		if s.last > 0 {
			if _, err := s.j.Publish(t.Context(), s.w, s.last, []byte("again")); !errors.Is(err, journal.ErrConflict) {
				t.Fatalf("published twice: %v", err)
			}
		}
		s.last = seq
	}
	for range 100 { // alone, with the other in between, alone again
		publish(sides[0])
	}
	for i := range 20 {
		publish(sides[i%2])
	}
	for range 100 {
		publish(sides[1])
	}
}
