package replay

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The index is a map, however its hashes collide.
func TestIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab, model := newTable(), map[journal.Ref]place{}
		for range 16 {
			tab.pages = append(tab.pages, new(page))
		}
		// A few homes, the last slot among them, so that clusters grow and go round the end.
		homes := []uint32{0, 1 << 31, 1<<32 - 1, 1<<32 - 2}
		hashOf := func(ref journal.Ref) uint32 { return homes[ref[0]%4] | uint32(ref[1]%2) }
		next := place(0)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				ref := journal.Ref{rapid.Byte().Draw(t, "a"), rapid.ByteMax(3).Draw(t, "b")}
				if _, ok := model[ref]; ok || next == 16*pageSize {
					t.Skip("present")
				}
				tab.at(next).ref = ref
				tab.index.put(hashOf(ref), next)
				model[ref] = next
				next++
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("empty")
				}
				ref := rapid.SampledFrom(slices.SortedFunc(maps.Keys(model), compareRefs)).Draw(t, "ref")
				at, got, ok := tab.find(hashOf(ref), &ref)
				if !ok || got != model[ref] {
					t.Fatalf("%v is at %d, %v, want %d", ref, got, ok, model[ref])
				}
				tab.index.remove(at)
				delete(model, ref)
				if _, _, ok := tab.find(hashOf(ref), &ref); ok {
					t.Fatalf("%v is still there", ref)
				}
			},
			"": func(t *rapid.T) {
				if tab.index.count != len(model) {
					t.Fatalf("%d, want %d", tab.index.count, len(model))
				}
				for ref, p := range model {
					if _, got, ok := tab.find(hashOf(ref), &ref); !ok || got != p {
						t.Fatalf("%v is at %d, %v, want %d", ref, got, ok, p)
					}
				}
			},
		})
	})
}
