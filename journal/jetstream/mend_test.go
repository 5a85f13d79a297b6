package jetstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// stored makes a store with n messages of 3,000 bytes, and returns its block file.
func stored(t *testing.T, dir string, n int) (blockFile string, w journal.WriterID) {
	t.Helper()
	e := start(t, dir)
	w = journal.NewWriterID()
	var last journal.Seq
	for i := range n {
		seq, err := e.Publish(t.Context(), w, last, bytes.Repeat([]byte{byte(i + 1)}, 3000))
		if err != nil {
			t.Fatal(err)
		}
		last = seq
	}
	e.stop()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "DORMOUSE_BATCHES", "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	return blocks[0], w
}

// lengthOf returns where a block has the length of a message's record: in front of the sequence.
func lengthOf(block []byte, seq byte) int {
	return bytes.Index(block, []byte{seq, 0, 0, 0, 0, 0, 0, 0}) - 4
}

// unclean makes a store look as if its server had been killed.
func unclean(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "jetstream.clean")); err != nil {
		t.Fatal(err)
	}
}

// present returns the messages that are there.
func present(t *testing.T, e *embedded) (there []journal.Seq) {
	t.Helper()
	b, err := e.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for after := b.First - 1; after < b.Last; {
		err := e.Read(t.Context(), after, func(m journal.Message) error {
			there, after = append(there, m.Seq), m.Seq
			if m.Seq == b.Last {
				return journal.ErrStop
			}
			return nil
		})
		if gap, ok := errors.AsType[*journal.GapError](err); ok {
			after = gap.Next - 1
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return there
}

// One flipped bit costs one message, however often the server is killed afterwards; without mending, the server
// would cut the block off there.
func TestMend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(data []byte) []byte
		lost   []journal.Seq
		fault  string
	}{
		"in a message":   {damage: flipAt(0.45), lost: []journal.Seq{5}, fault: "message 5 is damaged"},
		"in the first":   {damage: flipAt(0.05), lost: []journal.Seq{1}, fault: "message 1 is damaged"},
		"in a length":    {damage: func(d []byte) []byte { d[lengthOf(d, 4)+1] ^= 0x10; return d }, lost: []journal.Seq{4}, fault: "message 4 is damaged"},
		"over messages":  {damage: func(d []byte) []byte { clear(d[25*len(d)/100 : 45*len(d)/100]); return d }, lost: []journal.Seq{3, 4, 5}, fault: "messages between 2 and 6 are damaged"},
		"cut out":        {damage: func(d []byte) []byte { return slices.Delete(d, 25*len(d)/100, 45*len(d)/100) }, lost: []journal.Seq{3, 4, 5}, fault: "messages between 2 and 6 are damaged"},
		"twice":          {damage: func(d []byte) []byte { return flipAt(0.85)(flipAt(0.15)(d)) }, lost: []journal.Seq{2, 9}, fault: "message 9 is damaged"},
		"nothing at all": {damage: func(d []byte) []byte { return d }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, w := stored(t, dir, 10)
			unclean(t, dir)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = c.damage(data)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
			if broken, ok := errors.AsType[*jetstream.BlockError](err); ok != (len(c.lost) > 0) || ok && !bytes.Contains([]byte(broken.Error()), []byte(c.fault)) {
				t.Fatalf("started on it: %v", err)
			}
			if err == nil {
				s.Shutdown()
				return
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
				t.Fatalf("the refusal changed the file: %v", err)
			}
			e := startMending(t, dir)
			seq, err := e.Publish(t.Context(), w, 10, []byte("one more"))
			if err != nil || seq != 11 {
				t.Fatal(seq, err)
			}
			e.stop()
			kept, err := filepath.Glob(filepath.Join(dir, "damaged-*", "DORMOUSE_BATCHES", filepath.Base(path)))
			if err != nil || len(kept) != 1 {
				t.Fatal(kept, err)
			}
			if was, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(was, data) {
				t.Errorf("the damaged file is not kept: %v", err)
			}
			want := slices.DeleteFunc([]journal.Seq{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, func(s journal.Seq) bool { return slices.Contains(c.lost, s) })
			for _, index := range []string{"with its index", "without"} {
				unclean(t, dir)
				if index == "without" {
					_ = os.Remove(filepath.Join(filepath.Dir(path), "index.db"))
				}
				e = start(t, dir)
				if there := present(t, e); !slices.Equal(there, want) {
					t.Errorf("%s: %v, want %v", index, there, want)
				}
				e.stop()
			}
		})
	}
}

// A record that was half written, and then written again behind that, costs nothing: no operator is asked.
func TestMendOfWhatLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, _ := stored(t, dir, 10)
	unclean(t, dir)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := 6 * len(data) / 10
	if err := os.WriteFile(path, slices.Concat(data[:at], data[at:at+len(data)/20], data[at:]), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e := start(t, dir)
		if there := present(t, e); len(there) != 10 {
			t.Errorf("%v", there)
		}
		e.stop()
		unclean(t, dir)
	}
}

// What ends the last block may be a record that was being written when the process was killed.
func TestTornRecordIsNoDamage(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{91, 95, 99} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, _ := stored(t, dir, 10)
			unclean(t, dir)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, info.Size()*int64(percent)/100); err != nil {
				t.Fatal(err)
			}
			e := start(t, dir)
			if there := present(t, e); len(there) != 9 {
				t.Errorf("%v", there)
			}
		})
	}
}

// Erased keys and trimmed batches leave no damage behind.
func TestMendKnowsErasedMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored(t, dir, 10)
	e := start(t, dir)
	name := keyName()
	for _, id := range []journal.KeyID{"a", "b", "c"} {
		name.Key = id
		if err := e.Keys().Create(t.Context(), name, bytes.Repeat([]byte(id), 61)); err != nil {
			t.Fatal(err)
		}
	}
	name.Key = "b"
	if err := e.Keys().Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := e.Trim(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	e.stop()
	unclean(t, dir)
	e = start(t, dir)
	if there := present(t, e); !slices.Equal(there, []journal.Seq{5, 6, 7, 8, 9, 10}) {
		t.Errorf("%v", there)
	}
	if keys, err := e.Keys().Load(t.Context(), name.Tenant); err != nil || len(keys) != 2 {
		t.Errorf("%v, %v", keys, err)
	}
}

// A message that is damaged before the removal of an older one is not said to stand before that older one.
func TestBlockFaultBeforeARemoval(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := start(t, dir)
	name := keyName()
	for _, id := range []journal.KeyID{"a", "b", "c"} {
		name.Key = id
		if err := e.Keys().Create(t.Context(), name, bytes.Repeat([]byte(id), 61)); err != nil {
			t.Fatal(err)
		}
	}
	name.Key = "a"
	if err := e.Keys().Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	e.stop()
	unclean(t, dir)
	paths, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "DORMOUSE_KEYS", "msgs", "*.blk"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, bytes.Repeat([]byte("c"), 61))
	data[at] ^= 1
	if err := os.WriteFile(paths[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
	damage, ok := errors.AsType[*jetstream.BlockError](err)
	if !ok || len(damage.Faults) != 1 || damage.Faults[0].Before != 2 || damage.Faults[0].After != 0 {
		t.Fatalf("%v", err)
	}
}

func flipAt(place float64) func([]byte) []byte {
	return func(d []byte) []byte {
		d[int(place*float64(len(d)))] ^= 4
		return d
	}
}

func startMending(t *testing.T, dir string) *embedded {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Mend: true})
	if err != nil {
		t.Fatal(err)
	}
	e := &embedded{dir: dir, server: s}
	t.Cleanup(e.stop)
	if e.nc, err = s.Connect(); err != nil {
		t.Fatal(err)
	}
	if e.Journal, err = jetstream.Open(t.Context(), e.nc, jetstream.Options{}); err != nil {
		t.Fatal(err)
	}
	return e
}
