package jetstream_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dormouse-mcp/dormouse/journal"
)

// The last messages of a damaged stream are missing, and nothing comes behind them that would show the gap.
func TestReadReportsGapAtTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := start(t, dir)
	w := journal.NewWriterID()
	var last journal.Seq
	for range 5 {
		seq, err := e.Publish(t.Context(), w, last, make([]byte, 3000))
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
	info, err := os.Stat(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(blocks[0], info.Size()*7/10); err != nil {
		t.Fatal(err)
	}
	e = start(t, dir)
	var read journal.Seq
	err = e.Read(t.Context(), 0, func(m journal.Message) error {
		read = m.Seq
		return nil
	})
	gap, ok := errors.AsType[*journal.GapError](err)
	if !ok || read != 3 || gap.After != 3 || gap.Next != 6 {
		t.Errorf("read up to %d, then %v", read, err)
	}
}
