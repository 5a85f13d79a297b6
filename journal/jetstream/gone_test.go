package jetstream_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// Trimmed messages whose bytes are still in a block are nobody's loss, however they are damaged; others are.
func TestDamageOfWhatWasTrimmed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trim    journal.Seq
		message byte // that is damaged
		index   bool // the stream's own index is left
		refused bool
	}{
		"first":                     {trim: 5, message: 1, index: true},
		"in the middle":             {trim: 5, message: 2, index: true},
		"last of them":              {trim: 5, message: 4, index: true},
		"without an index":          {trim: 5, message: 2},
		"first, without an index":   {trim: 5, message: 1},
		"all but the last":          {trim: 10, message: 9, index: true},
		"behind the trim":           {trim: 5, message: 6, index: true, refused: true},
		"behind, without an index":  {trim: 5, message: 6, refused: true},
		"first that is left":        {trim: 5, message: 5, index: true, refused: true},
		"first, and without either": {trim: 5, message: 5, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, _ := stored(t, dir, 10)
			e := start(t, dir)
			if err := e.Trim(t.Context(), c.trim); err != nil {
				t.Fatal(err)
			}
			e.stop()
			unclean(t, dir)
			if !c.index {
				_ = os.Remove(filepath.Join(filepath.Dir(path), "index.db"))
			}
			change(t, path, func(data []byte) { data[lengthOf(data, c.message)+1000] ^= 4 })
			s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir})
			if _, refused := errors.AsType[*jetstream.BlockError](err); refused != c.refused {
				t.Fatalf("%v", err)
			}
			if c.refused {
				return
			}
			s.Shutdown()
			var want []journal.Seq
			for seq := c.trim; seq <= 10; seq++ {
				want = append(want, seq)
			}
			for range 2 {
				e = start(t, dir)
				if there := present(t, e); !slices.Equal(there, want) {
					t.Errorf("%v, want %v", there, want)
				}
				e.stop()
				unclean(t, dir)
			}
		})
	}
}

// A last record of full length that does not hold is cut off, as after a loss of power, and never in silence.
func TestDamagedLastRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, _ := stored(t, dir, 10)
	unclean(t, dir)
	change(t, path, func(data []byte) { data[len(data)-500] ^= 4 })
	var log bytes.Buffer
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Logger: zerolog.New(&log).Level(zerolog.WarnLevel)})
	if err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	if !strings.Contains(log.String(), "the last record of a block file does not hold") || !strings.Contains(log.String(), `"behind":9`) {
		t.Errorf("the log has %s", &log)
	}
}

// change changes a file's bytes.
func change(t *testing.T, path string, how func(data []byte)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		how(data)
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
