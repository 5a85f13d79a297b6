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
		tab, model := newTable(newProfiles()), map[journal.Ref]place{}
		for range 16 {
			tab.addPage(new(page))
		}
		hashOf := func(ref journal.Ref) uint32 { return tab.index.hash(&ref) }
		next := place(0)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				ref := journal.Ref{rapid.Byte().Draw(t, "a"), rapid.ByteMax(3).Draw(t, "b")}
				if _, ok := model[ref]; ok || next == 16*pageSize {
					t.Skip("present")
				}
				tab.at(next).ref, tab.at(next).profile = ref, 1
				tab.put(hashOf(ref), next)
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
				tab.unindex(at)
				tab.at(got).profile = 0
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
