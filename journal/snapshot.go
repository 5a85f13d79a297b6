package journal

// SnapshotID names one snapshot: a folded state at a sequence, stored in chunks beside the stream of batches.
type SnapshotID bytes16

// NewSnapshotID returns a random ID. Chunks are sealed under a key derived from it, so no two snapshots share one.
func NewSnapshotID() SnapshotID { return SnapshotID(random16()) }

// String returns 32 hexadecimal digits, fit for a NATS subject token.
func (id SnapshotID) String() string { return bytes16(id).String() }

// ParseSnapshotID reads what String wrote. It fails with ErrMalformed.
func ParseSnapshotID(s string) (SnapshotID, error) {
	b, err := parse16("snapshot", s)
	return SnapshotID(b), err
}

// StoredSnapshot is what a store holds of a snapshot.
type StoredSnapshot struct {
	ID       SnapshotID
	Manifest []byte  // nil while it is not complete
	Stored   Instant // when the newest part of it was stored, by the store's clock
}
