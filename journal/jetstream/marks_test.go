package jetstream_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

func TestMarksAndLosses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := start(t, dir)
	if _, err := e.OpenMarks(t.Context(), 1, false); !errors.Is(err, journal.ErrNoMessage) {
		t.Fatalf("before the first: %v", err)
	}
	a := journal.Mark{Journal: e.ID(), Basis: journal.Basis{Seq: 9, Root: journal.Root{1}}, Events: 9, When: 1_790_000_000_000, Replica: "a.b *>"}
	b := a
	b.Replica, b.Seq = "b", 4
	l := journal.Loss{Number: 1, Journal: e.ID(), Kind: journal.LossHole, From: 3, To: 4, Last: 9, When: 1_790_000_000_000, Replica: "a"}
	m, err := e.OpenMarks(t.Context(), 1, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []journal.Mark{b, a, a} {
		if err := m.PutMark(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.AddLoss(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoss(t.Context(), l); !errors.Is(err, journal.ErrLossExists) {
		t.Fatalf("twice: %v", err)
	}
	check := func(what string, e *embedded) {
		t.Helper()
		m, err := e.OpenMarks(t.Context(), 1, what != "again")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		marks, err := m.Marks(t.Context())
		if err != nil || !slices.Equal(marks, []journal.Mark{b, a}) {
			t.Errorf("%s: %+v, %v", what, marks, err)
		}
		losses, err := m.Losses(t.Context())
		if err != nil || !slices.Equal(losses, []journal.Loss{l}) {
			t.Errorf("%s: %+v, %v", what, losses, err)
		}
	}
	check("at once", e)
	e.stop()
	e = start(t, dir)
	check("again", e)
	e.stop()
	flipDefinition(t, dir, "DORMOUSE_MARKS")
	for range 2 {
		e = start(t, dir)
		check("after its definition was damaged", e)
		e.stop()
	}
}

// A flipped bit in a stream's definition makes the server forget the stream, not its messages.
func TestRenew(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"DORMOUSE_BATCHES", "DORMOUSE_KEYS"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			e := start(t, dir)
			id := e.ID()
			if _, err := e.Publish(t.Context(), journal.NewWriterID(), 0, []byte("batch")); err != nil {
				t.Fatal(err)
			}
			if err := e.Keys().Create(t.Context(), keyName(), []byte("wrapped")); err != nil {
				t.Fatal(err)
			}
			e.stop()
			flipDefinition(t, dir, name)
			s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			nc, err := s.Connect()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jetstream.Open(t.Context(), nc, jetstream.Options{Create: true}); !errors.Is(err, jetstream.ErrNoJournal) {
				t.Errorf("opened: %v", err)
			}
			if j, err := jetstream.Renew(t.Context(), nc, jetstream.Options{}, journal.ID{}); err != nil || j.ID() != id {
				t.Errorf("%v", err)
			}
			nc.Close()
			s.Shutdown()
			e = start(t, dir) // it stays
			if b, err := e.Bounds(t.Context()); err != nil || b != (journal.Bounds{First: 1, Last: 1}) || e.ID() != id {
				t.Errorf("%v, %v", b, err)
			}
			if keys, err := e.Keys().Load(t.Context(), keyName().Tenant); err != nil || len(keys) != 1 {
				t.Errorf("%v, %v", keys, err)
			}
		})
	}
}

func TestAdvance(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := start(t, dir)
	if err := e.Advance(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	e.stop()
	e = start(t, dir)
	if b, err := e.Bounds(t.Context()); err != nil || b != (journal.Bounds{First: 8, Last: 7}) {
		t.Errorf("%v, %v", b, err)
	}
	if seq, err := e.Publish(t.Context(), journal.NewWriterID(), 0, []byte("batch")); err != nil || seq != 8 {
		t.Errorf("%d, %v", seq, err)
	}
	if err := e.Advance(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	if b, err := e.Bounds(t.Context()); err != nil || b != (journal.Bounds{First: 8, Last: 8}) {
		t.Errorf("with a message: %v, %v", b, err)
	}
}

// flipDefinition inverts a bit of a stream's definition.
func flipDefinition(t *testing.T, dir, stream string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", stream, "meta.inf"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0x10
	if err := os.WriteFile(paths[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func keyName() seal.KeyName { return seal.KeyName{Tenant: journal.TenantID{1}, Key: "k", Wrap: "w"} }
