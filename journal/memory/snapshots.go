package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Snapshots implements snapshot.Store. Safe for concurrent use; the zero value is empty and ready.
type Snapshots struct {
	mu   sync.Mutex
	all  map[journal.SnapshotID]*stored
	down bool
}

type stored struct {
	chunks   map[int][]byte
	manifest []byte
	at       journal.Instant
}

// SetDown makes every call fail with journal.ErrUnavailable until it is unset.
func (s *Snapshots) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// PutChunk stores a chunk. See snapshot.Store.
func (s *Snapshots) PutChunk(ctx context.Context, id journal.SnapshotID, number int, data []byte) error {
	return s.change(ctx, id, func(x *stored) { x.chunks[number] = slices.Clone(data) })
}

// PutManifest makes the snapshot complete.
func (s *Snapshots) PutManifest(ctx context.Context, id journal.SnapshotID, data []byte) error {
	return s.change(ctx, id, func(x *stored) { x.manifest = slices.Clone(data) })
}

func (s *Snapshots) change(ctx context.Context, id journal.SnapshotID, fn func(*stored)) error {
	return s.locked(ctx, func() {
		x := s.all[id]
		if x == nil {
			x = &stored{chunks: map[int][]byte{}}
			if s.all == nil {
				s.all = map[journal.SnapshotID]*stored{}
			}
			s.all[id] = x
		}
		x.at = journal.InstantOf(time.Now())
		fn(x)
	})
}

// Snapshots lists what is stored.
func (s *Snapshots) Snapshots(ctx context.Context) (list []journal.StoredSnapshot, err error) {
	err = s.locked(ctx, func() {
		for id, x := range s.all {
			list = append(list, journal.StoredSnapshot{ID: id, Manifest: x.manifest, Stored: x.at})
		}
	})
	return list, err
}

// Chunks calls fn with every chunk, in no order.
func (s *Snapshots) Chunks(ctx context.Context, id journal.SnapshotID, fn func(data []byte) error) error {
	var chunks [][]byte
	err := s.locked(ctx, func() {
		if x := s.all[id]; x != nil {
			chunks = slices.Collect(maps.Values(x.chunks))
		}
	})
	if err != nil {
		return err
	}
	for _, data := range chunks {
		if err := fn(data); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes everything of the snapshot.
func (s *Snapshots) Delete(ctx context.Context, id journal.SnapshotID) error {
	return s.locked(ctx, func() { delete(s.all, id) })
}

// Damage changes a chunk, or removes it if fn returns nil. Number 0 is the manifest.
func (s *Snapshots) Damage(id journal.SnapshotID, number int, fn func(data []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.all[id]
	switch {
	case x == nil:
	case number == 0:
		x.manifest = fn(slices.Clone(x.manifest))
	default:
		data := fn(slices.Clone(x.chunks[number]))
		if x.chunks[number] = data; data == nil {
			delete(x.chunks, number)
		}
	}
}

func (s *Snapshots) locked(ctx context.Context, fn func()) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return fmt.Errorf("memory snapshots: %w", journal.ErrUnavailable)
	}
	fn()
	return nil
}
