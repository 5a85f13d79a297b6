package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/jetstream"
)

// A snapshot on three servers is read whole after the one that led its stream was killed and its copy damaged: while it
// is down, and when it is back. Whatever a read gives, it is never a chunk that was not written.
func TestClusterKeepsSnapshots(t *testing.T) {
	t.Parallel()
	const chunks, stream = 20, "DORMOUSE_SNAPSHOTS"
	nodes := startNodes(t)
	j := nodes.open(t)
	s, err := j.OpenSnapshots(t.Context(), 3, true)
	id := journal.NewSnapshotID()
	for i := 0; i < chunks && err == nil; i++ {
		err = s.PutChunk(t.Context(), id, i+1, bytes.Repeat([]byte{byte(i)}, 100_000))
	}
	if err == nil {
		err = s.PutManifest(t.Context(), id, []byte("manifest"))
	}
	if err != nil {
		t.Fatal(err)
	}
	readWhole(t, s, id, chunks)
	leader := leaderOf(t, nodes.urls(), stream)
	nodes.kill(t, leader)
	readWhole(t, s, id, chunks)
	dir := nodes.config[leader][strings.LastIndex(nodes.config[leader], ",")+1:]
	paths, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", stream, "msgs", "*.blk"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	info, err := os.Stat(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	change(t, paths[0], func(data []byte) { data[info.Size()/2] ^= 4 })
	nodes.start(t, leader)
	readWhole(t, s, id, chunks)
	if list, err := s.Snapshots(t.Context()); err != nil || len(list) != 1 || string(list[0].Manifest) != "manifest" {
		t.Errorf("%v, %v", list, err)
	}
}

// readWhole reads a snapshot until all of its chunks come: there may be no leader for a while.
func readWhole(t *testing.T, s *jetstream.Snapshots, id journal.SnapshotID, chunks int) {
	t.Helper()
	for deadline := time.Now().Add(hung); ; <-time.After(100 * time.Millisecond) {
		seen := map[byte]bool{}
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		err := s.Chunks(ctx, id, func(data []byte) error {
			if len(data) != 100_000 || !bytes.Equal(data, bytes.Repeat(data[:1], len(data))) {
				return errors.New("a chunk that was not written")
			}
			seen[data[0]] = true
			return nil
		})
		cancel()
		if err == nil && len(seen) == chunks {
			return
		}
		if err != nil && strings.Contains(err.Error(), "not written") || time.Now().After(deadline) {
			t.Fatal(fmt.Errorf("%d of %d chunks: %w", len(seen), chunks, err))
		}
	}
}
