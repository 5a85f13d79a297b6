package replay

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
)

// A page is exactly what Go allocates, and nothing in it keeps the garbage collector busy.
func TestPageFits(t *testing.T) {
	if n := unsafe.Sizeof(page{}); n != 1792 {
		t.Errorf("a page takes %d bytes", n)
	}
}

// Whatever becomes of the sessions, the arena takes at most twice what is in use and one slab; every session keeps
// its body, and a frozen state keeps the bodies that it had.
func TestArenaIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		model := map[journal.Ref][]byte{}
		type frozen struct {
			f    *Frozen
			want map[journal.Ref][]byte
		}
		var held []frozen
		now := journal.Instant(1)
		context := func() []byte {
			n := rapid.SampledFrom([]int{0, 1, 100, 200, 300, 400, 3000, 4000}).Draw(t, "size")
			if rapid.IntRange(0, 99).Draw(t, "large") == 0 {
				n = rapid.SampledFrom([]int{ownSlab - 10, ownSlab + 10, slabBytes, maxOffset + 10}).Draw(t, "size")
			}
			return bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
		}
		some := func() journal.Ref {
			if len(model) == 0 {
				t.Skip("empty")
			}
			return rapid.SampledFrom(slices.SortedFunc(maps.Keys(model), compareRefs)).Draw(t, "ref")
		}
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "sessions") {
					n++
					e := someCreated(n, byte(n%3), "")
					e.Created.Context = context()
					fill(t, s, now, e)
					model[e.Ref] = e.Created.Context
				}
			},
			"change": func(t *rapid.T) {
				ref := some()
				one, _ := s.Session(ref)
				c := context()
				fill(t, s, now, journal.Event{Kind: journal.KindChanged, Ref: ref, Changed: &journal.Changed{
					Tenant: one.Tenant, Context: c, LogLevel: "debug",
				}})
				if len(c) > 0 {
					model[ref] = c
				}
			},
			"close": func(t *rapid.T) {
				for range min(len(model), rapid.IntRange(1, 50).Draw(t, "sessions")) {
					ref := some()
					fill(t, s, now, journal.Event{Kind: journal.KindClosed, Ref: ref, Reason: journal.ReasonAdmin})
					delete(model, ref)
				}
			},
			"forget": func(*rapid.T) { now = now.Add(24 * time.Hour) },
			"freeze": func(*rapid.T) { held = append(held, frozen{s.Freeze(), maps.Clone(model)}) },
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("none")
				}
				checkFrozen(t, held[0].f, held[0].want)
				held[0].f.Release()
				held = held[1:]
			},
			"": func(t *rapid.T) { checkArena(t, s, model) },
		})
	})
}

func checkArena(t *rapid.T, s *State, model map[journal.Ref][]byte) {
	t.Helper()
	a := &s.table.arena
	size, live, inUse := 0, 0, 0
	for i := range a.slabs {
		size += cap(a.slabs[i].data)
		live += a.slabs[i].live
	}
	for r := range s.table.records() {
		inUse += len(a.at(r.body))
	}
	if size != a.size || live != a.live || live != inUse {
		t.Fatalf("%d bytes of %d in use; counted %d of %d, by slabs %d", inUse, size, a.live, a.size, live)
	}
	current := 0
	if a.current >= 0 {
		current = cap(a.slabs[a.current].data)
	}
	if size > 2*live+current {
		t.Fatalf("%d bytes for %d in use, the current slab has %d", size, live, current)
	}
	if s.Len() != len(model) {
		t.Fatalf("%d sessions, want %d", s.Len(), len(model))
	}
	for ref, want := range model {
		if one, ok := s.Session(ref); !ok || !bytes.Equal(one.Context, want) {
			t.Fatalf("session %v is not what it was", ref)
		}
	}
}

func checkFrozen(t *rapid.T, f *Frozen, want map[journal.Ref][]byte) {
	t.Helper()
	f.Arrange()
	if f.Len() != len(want) {
		t.Fatalf("%d sessions are frozen, want %d", f.Len(), len(want))
	}
	for i := range f.Len() {
		row := f.Row(i)
		var b body
		if common := f.Common(row.Common); !b.decode(row.Body) || !bytes.Equal(b.context, want[row.Ref]) || common.Timeout != time.Minute {
			t.Fatalf("session %v was changed while it was frozen", row.Ref)
		}
	}
}

// Many small sessions, ended at random: what is left moves together.
func TestArenaGivesBack(t *testing.T) {
	s := NewState()
	const n = 20_000
	for i := range n {
		e := someCreated(i, 1, "")
		e.Created.Context = make([]byte, 200)
		fill(t, s, 1, e)
	}
	full := s.table.arena.size
	for i := range n {
		if i%16 != 0 {
			fill(t, s, 1, journal.Event{Kind: journal.KindClosed, Ref: numbered(i), Reason: journal.ReasonAdmin})
		}
	}
	if a := &s.table.arena; a.size > full/6 {
		t.Errorf("%d bytes of %d are left for a sixteenth of the sessions", a.size, full)
	}
	for i := 0; i < n; i += 16 {
		if one, ok := s.Session(numbered(i)); !ok || len(one.Context) != 200 {
			t.Fatalf("session %d is gone", i)
		}
	}
}

// Stored forms are canonical: what decodes is what append gives, or is refused by canonical.
func FuzzBody(f *testing.F) {
	one := body{
		id: []byte("id"), context: []byte("context"),
		binding: binding{epoch: 3, at: journal.Position{Seq: 4, Index: 5}, replica: []byte("r"), upstream: []byte("u"), upstreamKey: []byte("k")},
		wishes:  wishes{logLevel: []byte("info"), subscriptions: []string{"a", "b"}},
	}
	f.Add(one.append(nil, one.size()))
	f.Add((&body{id: []byte("id")}).append(nil, 3))
	f.Fuzz(func(t *testing.T, stored []byte) {
		var b body
		if !b.decode(stored) || !b.canonical(stored) {
			return
		}
		if got := b.append(nil, b.size()); !bytes.Equal(got, stored) {
			t.Fatalf("%x becomes %x", stored, got)
		}
		if got := bodyBytes(append(slices.Clone(stored), 1, 2, 3)); !bytes.Equal(got, stored) {
			t.Fatalf("%x is read as %x", stored, got)
		}
	})
}
