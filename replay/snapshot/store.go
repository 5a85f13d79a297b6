package snapshot

import (
	"context"
	"errors"

	"github.com/dormouse-mcp/dormouse/journal"
)

// Store keeps snapshots where all replicas find them. Safe for concurrent use.
type Store interface {
	// PutChunk stores a chunk, durably, and does not keep data. Chunks may be stored in any order.
	PutChunk(ctx context.Context, id journal.SnapshotID, number int, data []byte) error
	// PutManifest makes the snapshot complete, durably. All its chunks are stored.
	PutManifest(ctx context.Context, id journal.SnapshotID, data []byte) error
	// Snapshots lists all of which anything is stored, incomplete ones included, in no order.
	Snapshots(ctx context.Context) ([]journal.StoredSnapshot, error)
	// Chunks calls fn with every chunk of the snapshot that is there, in any order, one at a time. fn may keep data. It
	// returns fn's error as it is. A chunk may come twice, or be missing without an error.
	Chunks(ctx context.Context, id journal.SnapshotID, fn func(data []byte) error) error
	// Delete removes everything of the snapshot.
	Delete(ctx context.Context, id journal.SnapshotID) error
}

// Sealer seals chunks. *seal.Chunks implements it. Safe for concurrent use.
type Sealer interface {
	// Key names the key under which new snapshots are sealed.
	Key() journal.KeyID
	// Seal appends the sealed form of plain to dst.
	Seal(key journal.KeyID, id journal.SnapshotID, dst, bound, plain []byte) ([]byte, error)
	// Open returns what was sealed.
	Open(key journal.KeyID, id journal.SnapshotID, bound, sealed []byte) ([]byte, error)
}

var (
	// ErrIncomplete says that chunks of a snapshot are missing or are not the ones that were written. Take an older one.
	ErrIncomplete = errors.New("snapshot incomplete")

	// ErrVersion says that a release with other rules wrote the snapshot. Take an older one, or that release.
	ErrVersion = errors.New("snapshot of another version")

	// ErrForeign says that the snapshot is of another journal.
	ErrForeign = errors.New("snapshot of another journal")

	// ErrAhead says that the stream ends before the snapshot does: the stream has lost its end, or is an older copy.
	// An older snapshot would only hide that.
	ErrAhead = errors.New("the stream ends before the snapshot")

	// ErrSkipped says that the state cannot be trusted with a snapshot or a trim, because this release had to skip
	// events that it does not know. Leave both to a newer one.
	ErrSkipped = errors.New("this release has skipped events that it does not know")
)
