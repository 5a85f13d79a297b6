package journal_test

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journaltest"
)

// What is decoded into an arena is what is decoded without one, whatever stood in the arena before, and stays so
// until Reset.
func TestArenaDecodesAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a journal.Arena
		for range rapid.IntRange(1, 4).Draw(t, "resets") {
			a.Reset()
			var want, got []*journal.Batch
			for range rapid.IntRange(1, 5).Draw(t, "batches") {
				events := journaltest.Events(t, 20)
				h := headerOf(events)
				meta, _, err := journal.AppendEvents(nil, h.First, events)
				if err != nil {
					t.Fatal(err)
				}
				sealed := journal.AppendSealed(nil, events)
				w, err := journal.DecodeEvents(h, meta, sealed)
				if err != nil {
					t.Fatal(err)
				}
				in := append(a.Bytes(len(meta)), meta...)
				g, err := a.DecodeEvents(h, in, append(a.Bytes(len(sealed)), sealed...))
				if err != nil {
					t.Fatal(err)
				}
				want, got = append(want, w), append(got, g)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got\n%+v\nwant\n%+v", got, want)
			}
		}
	})
}

func TestArenaUsesItsMemoryAgain(t *testing.T) {
	var a journal.Arena
	first := append(a.Bytes(100), 1)
	second := append(a.Bytes(1000), 2)
	if cap(first) != 100 || cap(second) != 1000 {
		t.Fatalf("capacities %d and %d", cap(first), cap(second))
	}
	a.Reset()
	if again := a.Bytes(1000)[:1]; !bytes.Equal(again, second[:1]) {
		t.Fatal("other memory after Reset")
	}
	if n := testing.AllocsPerRun(10, func() {
		a.Reset()
		a.Bytes(1000)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
